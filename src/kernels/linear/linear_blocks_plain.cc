#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels/formats/panels.h"
#include "kernels/linear/linear_blocks.h"

namespace sepllm {

void run_panels_plain(const PanelRun& run, const QuantizedRows& x) {
  const PanelForm form = format_of(run.type).panel;
  for (int64_t b = 0; b < 2 * run.n_pairs; ++b) {
    for (int s = 0; s < run.n_streams; ++s) {
      const char* pair = run.panels[s] + b / 2 * form.pair_bytes();
      const int half = static_cast<int>(b % 2), shift = form.group_shift(half);
      const auto* lines = reinterpret_cast<const uint8_t*>(pair) + form.group_line(half) * 64;
      f16 scales[kPanelOutputs];
      std::memcpy(scales, pair + form.values_bytes() + b % 2 * 32, sizeof(scales));
      for (int64_t r = 0; r < run.n_rows; ++r) {
        const int8_t* values = x.values + (r * x.n_blocks + b) * kGroupElements;
        for (int64_t o = 0; o < kPanelOutputs; ++o) {
          int32_t dot = x.starts[r * x.n_blocks + b];
          for (int64_t k = 0; k < kGroupElements; ++k)
            dot += (lines[k / 4 * 64 + o * 4 + k % 4] >> shift & form.mask()) * values[k];
          const float scaled = to_float(scales[o]) * static_cast<float>(dot);
          float& sum = run.sum(s, r)[o];
          sum = std::fma(scaled, x.scales[r * x.n_blocks + b], sum);
        }
      }
    }
  }
}

}  // namespace sepllm
