// The gradients of y = x W^T + b.
#pragma once

#include "tensor/context.h"
#include "tensor/matrix.h"
#include "tensor/view.h"

namespace sepllm {

// dx[r, i] += sum_o dy[r, o] * w[o, i]. dy: [n, w.n_out], dx: [n, w.n_in]; w: f32, f16 or bf16, stored either
// way. Computed in the same way as `linear` with many rows (AMX, or fixed tiles through BLAS): the bits do
// not depend on the number of threads.
void linear_backward_input(const Context& ctx, const Matrix& dy, const Weight& w, const Matrix& dx);

// dw += dy^T x, in f32 and in the order of `w` (n_out rows, or n_in if it is transposed) without gaps, and
// dbias[o] += sum_r dy[r, o]; either may be null. The bits do not depend on the number of threads.
void linear_backward_weight(const Context& ctx, const Matrix& x, const Matrix& dy, const Weight& w, float* dw,
                            float* dbias);

// Both gradients, computed directly from the definition in double precision.
void linear_backward_reference(const Matrix& x, const Matrix& dy, const Weight& w, const Matrix& dx,
                               float* dw, float* dbias);

}  // namespace sepllm
