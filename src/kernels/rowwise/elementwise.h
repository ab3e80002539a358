// Activations, residual additions, embedding rows, stores into a cache.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/rowwise/kinds.h"
#include "tensor/context.h"
#include "tensor/matrix.h"
#include "tensor/view.h"

namespace sepllm {

// x = f(x), in place.
void activate(const Context& ctx, Activation f, const Matrix& x);
// x = f(x) * up, in place (SwiGLU with kSilu).
void activate_gated(const Context& ctx, Activation f, const Matrix& x, const Matrix& up);
// x += y
void add(const Context& ctx, const Matrix& x, const Matrix& y);

// y[r] = table row ids[r], as f32; added to y if `accumulate`. Every id in [0, table.n_out) (a check). int64
// ids: also positions.
void embed(const Context& ctx, const Weight& table, std::span<const int64_t> ids, const Matrix& y,
           bool accumulate = false);

// Stores f32 head rows into cache rows of another type: for each row r and head g, n = head_dim elements from
// x.row(r) + offset + g * head_step to rows[r] + g * head_stride (elements of `type`).
struct HeadRows {
  int64_t n_heads = 0;
  int64_t head_dim = 0;
  int64_t offset = 0;
  int64_t head_step = 0;
};
// int8 alone: the scale of row r and head g goes to scales[r][g * scale_head_stride].
void store_rows(const Context& ctx, const Matrix& x, const HeadRows& heads, DType type, void* const* rows,
                int64_t head_stride, float* const* scales = nullptr, int64_t scale_head_stride = 0);

// Natural-log NLL of target[r] under softmax(logits[r]); in double inside. logits: [n, vocab], out: [n].
void nll_rows(const Context& ctx, const Matrix& logits, std::span<const int32_t> targets, double* out);

void activate_reference(Activation f, const Matrix& x);

}  // namespace sepllm
