// Formats of blocks that files hold and no kernel multiplies, byte for byte those of GGUF (ggml's
// ggml-common.h): they are only read. A format is one file (q4_1.cc, q4_k.cc) and one line of
// SEPLLM_STORED_BLOCK_TYPES (base/dtype.h). The values are bit for bit those that the gguf package computes:
// each product and each difference is rounded to f32 by itself, so these files are compiled without fused
// multiplication (CMakeLists.txt).
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "base/dtype.h"

namespace sepllm {

struct StoredFormat {
  DType type;
  // All block_elements(type) values of a block, which has no alignment.
  void (*dequantize)(const void* block, float* to);
  // Whether all scales of the block are finite numbers; then all its values are, too.
  bool (*is_finite)(const void* block);
};

// Of a type of SEPLLM_STORED_BLOCK_TYPES; null for others.
const StoredFormat* stored_format(DType type);

// A block's bytes as the struct that describes them.
template <typename Block>
Block load_block(const void* from) {
  static_assert(alignof(Block) <= 2);
  Block block;
  std::memcpy(&block, from, sizeof block);
  return block;
}

// For is_finite: of a block whose scale is `d`, or whose scales are `d` and `m`.
template <typename Block>
bool scale_is_finite(const void* from) {
  return std::isfinite(to_float(load_block<Block>(from).d));
}
template <typename Block>
bool scales_are_finite(const void* from) {
  const auto block = load_block<Block>(from);
  return std::isfinite(to_float(block.d)) && std::isfinite(to_float(block.m));
}

// Bit k of bytes that hold the highest bits of some values.
inline int bit_at(const uint8_t* bits, int64_t k) { return (bits[k / 8] >> (k % 8)) & 1; }

}  // namespace sepllm
