// The closed list of operators that the decoder is made of. Each chooses among kernels and, if the context
// has a tape, records its backward pass there. Activations are then the tape's (Tape::activation); everything
// that a closure reads (operands, ids, patterns, tables) must live until the backward pass, in the arena or
// with the caller.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/attention/pattern_attention.h"
#include "kernels/linear/linear.h"
#include "kernels/linear/linear_nll.h"
#include "kernels/rowwise/elementwise.h"
#include "kernels/rowwise/rope.h"
#include "tensor/context.h"
#include "tensor/heads.h"
#include "tensor/matrix.h"
#include "tensor/tape.h"
#include "tensor/view.h"

namespace sepllm::ops {

// Packs floats as bf16, rounded to nearest even.
Tape::Packing bf16_packing();

struct NormOperands {
  bool rms = true;
  const float* weight = nullptr;  // [d]
  const float* bias = nullptr;    // [d] or null; layer norm only
  float eps = 1e-5F;
  float offset = 0.0F;  // what weights are stored without: the norm multiplies by weight + offset
};

// y[r] = table row ids[r], added to y if `accumulate`.
void embed(const Context& ctx, const Weight& table, std::span<const int64_t> ids, const Matrix& y,
           bool accumulate = false);

// Passes of up to this many rows give each row the same bits, whatever the other rows are: products with few
// rows read each row separately (kernels/linear/linear.h), and attention sees only its own sequence.
inline constexpr int64_t kRowsOfEqualBits = kFewRows;

// y = x W^T + b for each part (kernels/linear/linear.h).
void linear(const Context& ctx, const Matrix& x, std::span<const LinearPart> parts);

// x = f(x); x = f(x) * up. In place.
void activate(const Context& ctx, Activation f, const Matrix& x);
void activate_gated(const Context& ctx, Activation f, const Matrix& x, const Matrix& up);

// The loss of training (without a tape see kernels/linear/linear_nll.h): nll[r] = negative log-likelihood of
// targets[r] under the head's softmax, computed in blocks of rows (never rows x vocabulary at once). The
// gradient of sum_r factors[r] * nll[r] flows back into hidden and head; rows with factor 0 do not count.
// factors: [n]; every target is in [0, head.n_out).
struct CrossEntropyOperands {
  const Weight* head = nullptr;
  const float* bias = nullptr;  // or null
  std::span<const int32_t> targets{};
  const float* factors = nullptr;
};
void cross_entropy(const Context& ctx, const Matrix& hidden, const CrossEntropyOperands& operands,
                   double* nll);

// y = norm(x). x and y are [n, d] and may be the same.
void norm(const Context& ctx, const Matrix& x, const NormOperands& operands, const Matrix& y);

// The RMS norm of each head of rows [0, n_rows) of x (batch 0) by itself, in place; weight: [dim of a head].
void norm_heads(const Context& ctx, const Heads& x, int64_t n_rows, const NormOperands& operands);

// x *= factor, in place.
void scale(const Context& ctx, const Matrix& x, float factor);
// y = x
void copy(const Context& ctx, const Matrix& x, const Matrix& y);
// x += y
void add(const Context& ctx, const Matrix& x, const Matrix& y);

// How keys and queries are rotated by their places.
struct RopeSpec {
  std::span<const double> inv_freq{};  // radians per position, one for each pair of dims; empty: no rotation
  RopePairing pairing = RopePairing::kHalf;
  double factor = 1.0;  // the rotated dims of queries and keys are multiplied by it
  bool rotates() const { return !inv_freq.empty(); }
};
// Cosines and sines of these places, times rope.factor, in ctx.arena: one row per place.
RopeTables rope_tables(const Context& ctx, const RopeSpec& rope, std::span<const int64_t> places);

// Rotates rows [0, n_rows) of queries and keys (batch 0) in place, row r by the angles of row r of the
// tables. If `second` has tables, the queries rotated by those are first written to second_q (only for
// streams, not with a tape).
struct RopeOperands {
  Heads q{}, k{};
  int64_t n_rows = 0;
  RopePairing pairing = RopePairing::kHalf;
  RopeTables first{}, second{};
  Heads second_q{};
};
void rope(const Context& ctx, const RopeOperands& operands);

// out = attention of whole sequences to themselves by their patterns, with the implementation that the
// context asks for. (For new tokens and KV caches see ops/cached_attention.h.)
void pattern_attend(const Context& ctx, const PatternAttentionArgs& args);

}  // namespace sepllm::ops
