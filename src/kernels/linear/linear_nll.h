// The loss of a language model's head: a product whose result is only summed up.
#pragma once

#include <cstdint>
#include <span>

#include "tensor/context.h"
#include "tensor/matrix.h"
#include "tensor/view.h"

namespace sepllm {

// The negative log likelihood, in nats, of target[r] under softmax(x[r] W^T + bias): out[r] = log(sum_o
// exp(y[r, o])) - y[r, target[r]], 0 <= target < w.n_out. x: [n, w.n_in]; bias: [w.n_out] or null; out: [n].
// The products are those of `linear` (kernels/linear/linear.h), and the sums are in double, over blocks of
// outputs. With many rows and float weights, logits exist only in tiles that stay in cache: if there are few
// inputs, writing them to memory and reading them back would take longer than the products.
void linear_nll(const Context& ctx, const Matrix& x, const Weight& w, const float* bias,
                std::span<const int32_t> targets, double* out);

}  // namespace sepllm
