// The gradients of the functions in elementwise.h.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/rowwise/elementwise.h"

namespace sepllm {

// On entry d is the gradient of f(x), on return that of x. x: the input of f.
void activate_backward(const Context& ctx, Activation f, const Matrix& x, const Matrix& d);
// On entry d is the gradient of f(x) * up, on return that of x; the gradient of up is added to d_up.
void activate_gated_backward(const Context& ctx, Activation f, const Matrix& x, const Matrix& up,
                             const Matrix& d, const Matrix& d_up);

// to[ids[r] * d.n_cols + c] += d[r, c]: the gradient of an embedding table [n, d.n_cols], added in the order
// of the rows for any number of threads.
void embed_backward(const Context& ctx, std::span<const int64_t> ids, const Matrix& d, float* to);

// The loss of softmax(logits[r]) at targets[r]; the logits are overwritten by its gradient. nll[r] is as in
// nll_rows; logits[r, c] becomes (softmax[c] - (c == target)) * factors[r]. A factor of 0 (a row that does
// not count) leaves zeros.
void cross_entropy_rows(const Context& ctx, const Matrix& logits, std::span<const int32_t> targets,
                        const float* factors, double* nll);

// The first two functions computed directly from the definition, in double precision; no gate if up and d_up
// are null.
void activate_backward_reference(Activation f, const Matrix& x, const Matrix* up, const Matrix& d,
                                 const Matrix* d_up);

// One row of these functions: vector loops.
void activate_backward_row(Activation f, const float* x, const float* up, float* d, float* d_up, int64_t n);
// x[i] = exp(x[i] - shift) * factor
void softmax_row(float* x, int64_t n, float shift, float factor);

}  // namespace sepllm
