#include <cmath>
#include <cstring>

#include "kernels/formats/panels.h"
#include "kernels/linear/linear_blocks.h"

namespace sepllm {

void run_panels_plain(const PanelRun& run, const QuantizedRows& x) {
  const bool q8 = run.type == DType::kQ8_0;
  for (int64_t b = 0; b < 2 * run.n_pairs; ++b) {
    for (int s = 0; s < run.n_streams; ++s) {
      const char* pair = run.panels[s] + b / 2 * pair_bytes(run.type);
      const auto* lines = reinterpret_cast<const uint8_t*>(pair) + (q8 ? b % 2 * 8 * 64 : 0);
      const int shift = q8 ? 0 : static_cast<int>(b % 2 * 4), mask = q8 ? 255 : 15;
      f16 scales[kPanelOutputs];
      std::memcpy(scales, pair + pair_bytes(run.type) - 64 + b % 2 * 32, sizeof(scales));
      for (int64_t r = 0; r < run.n_rows; ++r) {
        const int8_t* values = x.values + (r * x.n_blocks + b) * kBlockElements;
        for (int64_t o = 0; o < kPanelOutputs; ++o) {
          int32_t dot = x.starts[r * x.n_blocks + b];
          for (int64_t k = 0; k < kBlockElements; ++k)
            dot += (lines[k / 4 * 64 + o * 4 + k % 4] >> shift & mask) * values[k];
          const float scaled = to_float(scales[o]) * static_cast<float>(dot);
          float& sum = run.sum(s, r)[o];
          sum = std::fma(scaled, x.scales[r * x.n_blocks + b], sum);
        }
      }
    }
  }
}

}  // namespace sepllm
