// 8- and 4-bit weights as they are stored: blocks of 32 elements of a row with one f16 scale, byte for byte
// those of GGUF, so that rows can be exchanged with other programs.
#pragma once

#include <cstdint>

#include "base/dtype.h"

namespace sepllm {

// value[k] = scale * values[k]
struct BlockQ8 {
  f16 scale;
  int8_t values[kBlockElements];
};
static_assert(sizeof(BlockQ8) == 34);

// value[k] = scale * (nibble[k] - 8); nibble k < 16 is the low half of nibbles[k], k >= 16 the high half of
// nibbles[k - 16].
struct BlockQ4 {
  f16 scale;
  uint8_t nibbles[kBlockElements / 2];
};
static_assert(sizeof(BlockQ4) == 18);

// Rounds n floats to blocks: row_bytes(type, n) bytes at `to`; a last block that is not full ends in zeros.
// Scales are those that leave the least squares of errors among several near the plain one (q8_0: largest
// magnitude / 127; q4_0: the element of largest magnitude / -8). A scale that overflows f16 or an element
// that is no number is stored as a scale of NaN or infinity (find_bad_block finds it).
void quantize_blocks(DType type, const float* from, int64_t n, void* to);
// to[k] = the value of element k, k < n.
void dequantize_blocks(DType type, const void* from, int64_t n, float* to);
// Index of the first block of n whose scale is NaN or infinite, or -1.
int64_t find_bad_block(DType type, const void* from, int64_t n_blocks);

}  // namespace sepllm
