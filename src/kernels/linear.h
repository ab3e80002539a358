// y = x W^T + b with weights as stored.
#pragma once

#include <cstdint>

#include "kernels/context.h"
#include "tensor/matrix.h"
#include "tensor/view.h"

namespace sepllm {

// y[r, o] = sum_i x[r, i] * w[o, i] + bias[o]. x: [n, w.n_in], y: [n, w.n_out] (may be columns of a wider
// row; must not overlap x); bias: [n_out] or null. `accumulate`: added to what y holds (a residual stream)
// instead of written over it. Few rows: vector kernels that read the weights once, at the speed of memory.
// Many rows: fixed tiles, converted to f32 in cache, through BLAS. The result of a row does not depend on the
// number of threads.
void linear(const Context& ctx, const Matrix& x, const Weight& w, const float* bias, const Matrix& y,
            bool accumulate = false);

// The same by the definition, in double precision.
void linear_reference(const Matrix& x, const Weight& w, const float* bias, const Matrix& y,
                      bool accumulate = false);

}  // namespace sepllm
