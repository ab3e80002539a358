// The closed list of operators that the decoder is made of: each chooses among kernels and, where the context
// has a tape, records its backward there. Activations are then the tape's (Tape::activation); what a closure
// reads (operands, ids, patterns, tables) must live until the backward pass, in the arena or with the caller.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/attention/attention.h"
#include "kernels/attention/pattern_attention.h"
#include "kernels/linear/linear.h"
#include "kernels/linear/linear_nll.h"
#include "kernels/rowwise/elementwise.h"
#include "kernels/rowwise/rope.h"
#include "tensor/context.h"
#include "tensor/matrix.h"
#include "tensor/tape.h"
#include "tensor/view.h"

namespace sepllm::ops {

// bf16, rounded to nearest even.
Tape::Packing bf16_packing();

struct NormOperands {
  bool rms = true;
  const float* weight = nullptr;  // [d]
  const float* bias = nullptr;    // [d] or null; layer norm only
  float eps = 1e-5F;
};
// y[r] = table row ids[r], added to y if `accumulate`.
void embed(const Context& ctx, const Weight& table, std::span<const int64_t> ids, const Matrix& y,
           bool accumulate = false);

// y = x W^T + b for each part (kernels/linear/linear.h).
void linear(const Context& ctx, const Matrix& x, std::span<const LinearPart> parts);

// x = f(x); x = f(x) * up. In place.
void activate(const Context& ctx, Activation f, const Matrix& x);
void activate_gated(const Context& ctx, Activation f, const Matrix& x, const Matrix& up);

// Training's loss (without a tape: kernels/linear/linear_nll.h): nll[r] = that of the head's softmax at
// targets[r], in blocks of rows (never rows x vocabulary at once). The gradient of sum_r factors[r] * nll[r]
// flows back into hidden and head; rows with factor 0 do not count. factors: [n]; every target in [0,
// head.n_out).
struct CrossEntropyOperands {
  const Weight* head = nullptr;
  const float* bias = nullptr;  // or null
  std::span<const int32_t> targets{};
  const float* factors = nullptr;
};
void cross_entropy(const Context& ctx, const Matrix& hidden, const CrossEntropyOperands& operands,
                   double* nll);

// y = norm(x); x, y: [n, d], may be the same.
void norm(const Context& ctx, const Matrix& x, const NormOperands& operands, const Matrix& y);

// How query, key and value heads lie in a QKV row, in elements.
struct QkvHeads {
  int64_t n_heads = 0;
  int64_t n_kv_heads = 0;
  int64_t head_dim = 0;
  int64_t q_group_stride = 0;  // from the queries of one kv head to those of the next
  int64_t k_offset = 0;
  int64_t v_offset = 0;
  int64_t kv_stride = 0;
};

// cos and sin of each row's angles: [n, n_freq].
struct RopeTables {
  int64_t n_freq = 0;
  const float* cos = nullptr;
  const float* sin = nullptr;
};
// Rotates queries and keys of qkv in place. Where `second` has tables, the queries rotated by those are
// written to second_q first (a matrix like qkv, of which only the query columns are set).
void rope(const Context& ctx, const Matrix& qkv, const QkvHeads& heads, bool interleaved,
          const RopeTables& first, const RopeTables& second, const Matrix& second_q);

// out = attention of the queries to the spans of their sequences (caches), by the implementation that the
// context asks for.
void attend(const Context& ctx, const AttentionArgs& args);

// out = attention of whole sequences to themselves by their patterns, alike.
void pattern_attend(const Context& ctx, const PatternAttentionArgs& args);

}  // namespace sepllm::ops
