// Activations, residual additions, embedding rows, stores into a cache.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/rowwise/kinds.h"
#include "tensor/context.h"
#include "tensor/heads.h"
#include "tensor/matrix.h"
#include "tensor/view.h"

namespace sepllm {

// x = f(x), in place.
void activate(const Context& ctx, Activation f, const Matrix& x);
// x = f(x) * up, in place (SwiGLU with kSilu).
void activate_gated(const Context& ctx, Activation f, const Matrix& x, const Matrix& up);
// x += y
void add(const Context& ctx, const Matrix& x, const Matrix& y);

// y[r] = table row ids[r] as f32; added to y if `accumulate`. Every id must be in [0, table.n_out) (checked).
// ids are int64 because they may be positions.
void embed(const Context& ctx, const Weight& table, std::span<const int64_t> ids, const Matrix& y,
           bool accumulate = false);

// Rows of a cache: head h of row r begins h * head_stride elements of `type` after rows[r]. Only int8 has
// scales: that of head h of row r is scales[r][h * scale_head_stride].
struct StoredRows {
  DType type = DType::kF32;
  void* const* rows = nullptr;
  int64_t head_stride = 0;
  float* const* scales = nullptr;
  int64_t scale_head_stride = 0;
};
// Stores the heads of rows [0, n_rows) of x (batch 0) as elements of another type.
void store_rows(const Context& ctx, const Heads& x, int64_t n_rows, const StoredRows& to);

// Natural-log NLL of target[r] under softmax(logits[r]); in double inside. logits: [n, vocab], out: [n].
void nll_rows(const Context& ctx, const Matrix& logits, std::span<const int32_t> targets, double* out);

void activate_reference(Activation f, const Matrix& x);

}  // namespace sepllm
