// Sep-Attention: softmax attention of whole sequences to themselves by a Pattern, forward and backward
// (docs/METHOD.md#training). The keys that a pattern keeps beyond its window are gathered once into dense
// rows, so the work is proportional to the visible pairs, and no T x T array exists.
#pragma once

#include <cstdint>
#include <span>

#include "attention/pattern.h"
#include "kernels/attention/attention.h"
#include "tensor/context.h"
#include "tensor/heads.h"

namespace sepllm {

// Rows [first_row, first_row + n_rows) of a batch of q, k, v and out; the pattern counts positions from
// first_row.
struct PatternSequence {
  int64_t first_row = 0;
  int64_t n_rows = 0;
  const Pattern* pattern = nullptr;
  int64_t batch = 0;
  // Only for a pattern with blocks: null, or [n_rows][heads of q][blocks.count - 1], which pattern_attention
  // sets to the choice of each query (BlockSelection::chosen, counted from its document's first block). The
  // backward pass needs it.
  int32_t* chosen = nullptr;
};

struct PatternAttentionArgs {
  float scale = 0.0F;  // usually 1 / sqrt(head_dim)
  // head_dim is 1 to 1024; multiples of 8 are fastest. Heads of k and v are evenly spaced, with the same
  // layout for both; their number divides that of q, and query head h reads kv head h / (q.layout.n /
  // k.layout.n).
  Heads q{}, k{}, v{};
  Heads out{};  // as many heads as q
  // Without data, or heads of one element: ln(sum of exp(score) over visible keys), for the backward pass.
  Heads log_sum_exp{};
  // Null, or [n_heads]: slope * (key position - query position) is added to the scaled score (ALiBi).
  const float* alibi_slopes = nullptr;
  std::span<const PatternSequence> sequences{};
};

// out = softmax(scale * q k^T + bias) v over the visible keys. The result does not depend on the number of
// threads. Scratch memory: the gathered rows, and O(threads * tile).
void pattern_attention(const Context& ctx, const PatternAttentionArgs& args);

// Sets d_q, d_k, d_v. args are those of pattern_attention, with its results (out and log_sum_exp are read).
// Scratch memory: O(tasks at a time * (rows + kept rows) * head_dim).
void pattern_attention_backward(const Context& ctx, const PatternAttentionArgs& args,
                                const AttentionGradients& gradients);

// The same computed directly from the definition, O(T^2) and in double precision: for tests and
// `--attention-impl reference`. Not for patterns with blocks (checked), whose references are those of
// block_choice.h and block_attention.h.
void pattern_attention_reference(const Context& ctx, const PatternAttentionArgs& args);
void pattern_attention_backward_reference(const Context& ctx, const PatternAttentionArgs& args,
                                          const AttentionGradients& gradients);

}  // namespace sepllm
