// The products of many rows with a weight matrix: bound by arithmetic.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/context.h"
#include "kernels/linear.h"
#include "tensor/matrix.h"
#include "tensor/view.h"

namespace sepllm {

// `linear` (kernels/linear.h) for any weight types and at least one row; operands are checked.
void linear_many_rows(const Context& ctx, const Matrix& x, std::span<const LinearPart> parts);

// The inputs [first, first + n) of a panel (kernels/panels.h) as floats: to[i * stride + o] = the weight of
// input first + i and output o < 16. All in multiples of 64, but for n, whose last pair may be cut off.
void panel_to_f32(DType type, const char* panel, int64_t first, int64_t n, float* to, int64_t stride);

}  // namespace sepllm
