// A random matrix of 8- or 4-bit weights, for tests and benchmarks.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include "kernels/formats/blocks.h"
#include "kernels/formats/format.h"
#include "kernels/formats/panels.h"
#include "tensor/buffer.h"

namespace sepllm::test {

// The rows of w [n_out, n_in] rounded to blocks, in panels.
inline Buffer panels_of(DType type, int64_t n_out, int64_t n_in, const float* w) {
  Buffer panels(panels_bytes(type, n_out, n_in));
  const int64_t bytes = row_bytes(type, n_in);
  std::vector<char> stored(static_cast<size_t>(kPanelOutputs * bytes));
  for (int64_t p = 0; p < n_panels(n_out); ++p) {
    const void* rows[kPanelOutputs];
    const int64_t n = std::min(kPanelOutputs, n_out - p * kPanelOutputs);
    for (int64_t r = 0; r < n; ++r) {
      rows[r] = stored.data() + r * bytes;
      quantize_blocks(type, w + (p * kPanelOutputs + r) * n_in, n_in, stored.data() + r * bytes);
    }
    pack_panel(type, rows, n, n_in, panels.as<char>() + p * panel_bytes(type, n_in));
  }
  return panels;
}

// A random matrix in panels. Its groups hold every possible value, including q8_0's -128 (which
// quantize_blocks never writes, but a file may).
struct BlockMatrix {
  BlockMatrix(DType type, int64_t n_out, int64_t n_in, uint32_t seed)
      : panels(panels_bytes(type, n_out, n_in)), weight{type, panels.data(), n_out, n_in} {
    std::mt19937 rng(seed);
    const auto bytes = static_cast<size_t>(row_bytes(type, n_in));
    std::vector<char> stored(static_cast<size_t>(n_out) * bytes);
    for (int64_t o = 0; o < n_out; ++o) {
      char* row = stored.data() + static_cast<size_t>(o) * bytes;
      for (int64_t b = 0; b < blocks_of_row(type, n_in); ++b)
        fill(type, n_in - b * block_elements(type), rng, row + b * block_bytes(type));
    }
    for (int64_t p = 0; p < n_panels(n_out); ++p) {
      const void* rows[kPanelOutputs];
      const int64_t n = std::min(kPanelOutputs, n_out - p * kPanelOutputs);
      for (int64_t r = 0; r < n; ++r)
        rows[r] = stored.data() + static_cast<size_t>(p * kPanelOutputs + r) * bytes;
      pack_panel(type, rows, n, n_in, panels.as<char>() + p * panel_bytes(type, n_in));
    }
  }

  // A block whose elements from n on lie beyond the row's end: zeros.
  static void fill(DType type, int64_t n, std::mt19937& rng, char* block) {
    const BlockFormat& format = format_of(type);
    Quanta groups[kMostGroups];
    for (int64_t g = 0; g < groups_of_block(type); ++g) {
      groups[g].scale = to_f16(static_cast<float>(static_cast<int>(rng() % 2000) - 1000) * 1e-5F);
      for (int64_t k = 0; k < kGroupElements; ++k) {
        const bool inside = g * kGroupElements + k < n;
        groups[g].values[k] =
            static_cast<uint8_t>(inside ? static_cast<int>(rng()) & format.panel.mask() : format.panel.zero);
      }
    }
    format.encode(groups, block);
  }

  Buffer panels;
  Weight weight;
};

}  // namespace sepllm::test
