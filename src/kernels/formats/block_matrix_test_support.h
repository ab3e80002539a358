// A random matrix of blocks, for tests and benchmarks.
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

// A random matrix in panels. Its groups hold every possible value, including q8_0's -128 (which
// quantize_blocks never writes, but a file may).
struct BlockMatrix {
  // Any values, or with `extreme` only the least and the greatest: the largest sums of products.
  BlockMatrix(DType type, int64_t n_out, int64_t n_in, uint32_t seed, bool extreme = false)
      : panels(panels_bytes(type, n_out, n_in)), weight{type, panels.data(), n_out, n_in} {
    std::mt19937 rng(seed);
    const auto bytes = static_cast<size_t>(row_bytes(type, n_in));
    std::vector<char> stored(static_cast<size_t>(n_out) * bytes);
    for (int64_t o = 0; o < n_out; ++o) {
      char* row = stored.data() + static_cast<size_t>(o) * bytes;
      for (int64_t b = 0; b < blocks_of_row(type, n_in); ++b)
        fill(type, n_in - b * block_elements(type), rng, row + b * block_bytes(type), extreme);
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
  static void fill(DType type, int64_t n, std::mt19937& rng, char* block, bool extreme = false) {
    const BlockFormat& format = format_of(type);
    const PanelForm& form = format.panel;
    const auto number = [&] { return static_cast<float>(static_cast<int>(rng() % 2000) - 1000); };
    // Such that elements have about the same size in all formats.
    const float unit = form.of_blocks() ? 1e-5F / (form.parts() == 2 ? 64.0F : 32.0F) : 1e-5F;
    const f16 scale = to_f16(number() * unit), minimum = to_f16(number() * unit * 8);
    Quanta groups[kMostGroups];
    for (int64_t g = 0; g < groups_of_block(type); ++g) {
      groups[g].scale = form.of_blocks() ? scale : to_f16(number() * unit);
      groups[g].minimum = form.of_blocks() ? minimum : to_f16(number() * unit * 8);
      const uint32_t most = form.parts() == 2 ? 255 : 63;
      for (uint8_t& sub : groups[g].sub_scales) sub = static_cast<uint8_t>(rng() & most);
      groups[g].sub_minimum = static_cast<uint8_t>(rng() & 63);
      for (int64_t k = 0; k < kGroupElements; ++k) {
        const bool inside = g * kGroupElements + k < n;
        int value = form.zero;
        if (inside) value = static_cast<int>(rng()) & form.mask();
        // Equal within a group, so that its products have the same sign.
        if (inside && extreme) value = groups[g].sub_minimum % 4 < 2 ? 0 : form.mask();
        groups[g].values[k] = static_cast<uint8_t>(value);
      }
    }
    format.encode(groups, block);
  }

  Buffer panels;
  Weight weight;
};

}  // namespace sepllm::test
