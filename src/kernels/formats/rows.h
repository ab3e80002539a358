// Converts stored rows of elements to and from f32.
#pragma once

#include <cstdint>

#include "base/dtype.h"

namespace sepllm {

// to[i] = from[i] for n elements; no alignment is needed, nothing else is touched.
void row_to_f32(DType type, const void* from, int64_t n, float* to);
// to[i] += from[i]
void add_row_to_f32(DType type, const void* from, int64_t n, float* to);
// Rounds to nearest even; NaN stays NaN. Not to f64. For int8, here and above, only the integers are
// converted, without a scale.
void row_from_f32(DType type, const float* from, int64_t n, void* to);

// Stores n floats as int8 and returns their scale: to[i] * scale differs from from[i] by at most half the
// scale, which is the largest magnitude / 127. Rows without a magnitude of 2^-100 are stored as zeros with
// scale 0; a row with a NaN or infinity as zeros with scale NaN, so that readers see that something is wrong.
float quantize_row(const float* from, int64_t n, int8_t* to);

}  // namespace sepllm
