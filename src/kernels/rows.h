// Stored rows of elements from and to f32.
#pragma once

#include <cstdint>

#include "base/dtype.h"

namespace sepllm {

// to[i] = from[i] for n elements; no alignment is needed, nothing else is touched.
void row_to_f32(DType type, const void* from, int64_t n, float* to);
// to[i] += from[i]
void add_row_to_f32(DType type, const void* from, int64_t n, float* to);
// Rounds to nearest even; NaN stays NaN.
void row_from_f32(DType type, const float* from, int64_t n, void* to);

}  // namespace sepllm
