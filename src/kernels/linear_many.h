// The products of many rows with a weight matrix: bound by arithmetic.
#pragma once

#include "kernels/context.h"
#include "tensor/matrix.h"
#include "tensor/view.h"

namespace sepllm {

// `linear` (kernels/linear.h) for any weight type and at least one row; operands are checked.
void linear_many_rows(const Context& ctx, const Matrix& x, const Weight& w, const float* bias,
                      const Matrix& y, bool accumulate);

}  // namespace sepllm
