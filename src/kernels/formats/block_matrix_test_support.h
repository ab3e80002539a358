// A random matrix of 8- or 4-bit weights, for tests and benchmarks.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/formats/blocks.h"
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

// A random matrix in panels. Its blocks hold every byte there is, q8_0's -128 too (which quantize_blocks
// never writes, but a file may).
struct BlockMatrix {
  BlockMatrix(DType type, int64_t n_out, int64_t n_in, uint32_t seed)
      : panels(panels_bytes(type, n_out, n_in)), weight{type, panels.data(), n_out, n_in} {
    std::mt19937 rng(seed);
    const auto bytes = static_cast<size_t>(row_bytes(type, n_in));
    std::vector<char> stored(static_cast<size_t>(n_out) * bytes);
    for (int64_t o = 0; o < n_out; ++o) {
      char* row = stored.data() + static_cast<size_t>(o) * bytes;
      for (size_t i = 0; i < bytes; ++i) row[i] = static_cast<char>(rng());
      for (int64_t b = 0; b * kBlockElements < n_in; ++b) {
        char* block = row + b * block_bytes(type);
        const f16 scale = to_f16(static_cast<float>(static_cast<int>(rng() % 2000) - 1000) * 1e-5F);
        std::memcpy(block, &scale, sizeof(scale));
        for (int64_t k = n_in - b * kBlockElements; k < kBlockElements; ++k) clear(type, block, k);
      }
    }
    for (int64_t p = 0; p < n_panels(n_out); ++p) {
      const void* rows[kPanelOutputs];
      const int64_t n = std::min(kPanelOutputs, n_out - p * kPanelOutputs);
      for (int64_t r = 0; r < n; ++r)
        rows[r] = stored.data() + static_cast<size_t>(p * kPanelOutputs + r) * bytes;
      pack_panel(type, rows, n, n_in, panels.as<char>() + p * panel_bytes(type, n_in));
    }
  }

  // Element k of a block, beyond the row's end: zero.
  static void clear(DType type, char* block, int64_t k) {
    if (type == DType::kQ8_0) {
      block[2 + k] = 0;
    } else {
      char& byte = block[2 + k % 16];
      byte = static_cast<char>(k < 16 ? (byte & 0xF0) | 8 : (byte & 0x0F) | 0x80);
    }
  }

  Buffer panels;
  Weight weight;
};

}  // namespace sepllm::test
