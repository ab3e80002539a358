// Conversion of stored arrays. Plain loops: for norms, biases and checks, not for the hot path.
#pragma once

#include <cstdint>

#include "tensor/dtype.h"

namespace sepllm {

// out[0..n) = data[0..n) as f32; `data` need not be aligned and must not overlap `out`.
void convert_to_f32(DType type, const void* data, int64_t n, float* out);
// The reverse, rounded to nearest even; `out` need not be aligned.
void convert_from_f32(const float* data, int64_t n, DType type, void* out);

// Index of the first NaN or infinite element, or -1; `data` need not be aligned.
int64_t find_non_finite(DType type, const void* data, int64_t n);

}  // namespace sepllm
