// The loss of a language model's head: a product whose result is only summed up.
#pragma once

#include <cstdint>
#include <span>

#include "tensor/context.h"
#include "tensor/matrix.h"
#include "tensor/view.h"

namespace sepllm {

// Natural-log NLL of target[r] under softmax(x[r] W^T + bias): out[r] = log(sum_o exp(y[r, o])) - y[r,
// target[r]], 0 <= target < w.n_out. x: [n, w.n_in]; bias: [w.n_out] or null; out: [n]. The products are
// those of `linear` (kernels/linear/linear.h), the sums in double over blocks of outputs. Of many rows of
// float weights the logits exist only in tiles that stay in cache: with few inputs their way to memory and
// back would take longer than the products.
void linear_nll(const Context& ctx, const Matrix& x, const Weight& w, const float* bias,
                std::span<const int32_t> targets, double* out);

}  // namespace sepllm
