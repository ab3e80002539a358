// Rows of weights as they are stored in blocks (kernels/formats/format.h, stored_format.h).
#pragma once

#include <cstdint>

#include "base/dtype.h"

namespace sepllm {

// Rounds n floats to blocks of a type of kBlockTypes: row_bytes(type, n) bytes at `to`; a last block
// that is not full ends in zeros. Scales are those that leave the least squares of errors among several near
// the plain one (each format says which that is). A scale that overflows f16 or an element that is no number
// is stored as a scale of NaN or infinity (find_bad_block finds it).
void quantize_blocks(DType type, const float* from, int64_t n, void* to);
// to[k] = the value of element k, k < n. Any block type, as the next one.
void dequantize_blocks(DType type, const void* from, int64_t n, float* to);
// Index of the first block of n whose scale is NaN or infinite, or -1.
int64_t find_bad_block(DType type, const void* from, int64_t n_blocks);

}  // namespace sepllm
