// The gradients of what elementwise.h computes.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/rowwise/elementwise.h"

namespace sepllm {

// d, the gradient of f(x), becomes that of x. x: what went into f.
void activate_backward(const Context& ctx, Activation f, const Matrix& x, const Matrix& d);
// d, the gradient of f(x) * up, becomes that of x; the one of up is added to d_up.
void activate_gated_backward(const Context& ctx, Activation f, const Matrix& x, const Matrix& up,
                             const Matrix& d, const Matrix& d_up);

// to[ids[r] * d.n_cols + c] += d[r, c]: the gradient of an embedding table [n, d.n_cols], in the order of the
// rows whatever the number of threads.
void embed_backward(const Context& ctx, std::span<const int64_t> ids, const Matrix& d, float* to);

// The loss of softmax(logits[r]) at targets[r], and its gradient in the place of the logits: nll[r] as
// nll_rows gives it; logits[r, c] becomes (softmax[c] - (c == target)) * factors[r]. A factor of 0 (a row
// that does not count) leaves zeros.
void cross_entropy_rows(const Context& ctx, const Matrix& logits, std::span<const int32_t> targets,
                        const float* factors, double* nll);

// The first two by the definition, in double precision; up and d_up null: no gate.
void activate_backward_reference(Activation f, const Matrix& x, const Matrix* up, const Matrix& d,
                                 const Matrix* d_up);

// One row of them: vector loops.
void activate_backward_row(Activation f, const float* x, const float* up, float* d, float* d_up, int64_t n);
// x[i] = exp(x[i] - shift) * factor
void softmax_row(float* x, int64_t n, float shift, float factor);

}  // namespace sepllm
