// Sep-Attention: softmax attention of whole sequences to themselves by a Pattern, forward and backward
// (docs/METHOD.md#training). What a pattern keeps beyond its window is gathered once into dense rows, so that
// the work is that of the visible pairs and no T x T array exists.
#pragma once

#include <cstdint>
#include <span>

#include "attention/pattern.h"
#include "tensor/context.h"

namespace sepllm {

// Rows [first_row, first_row + n_rows) of q, k, v and out; the pattern counts positions from first_row.
struct PatternSequence {
  int64_t first_row = 0;
  int64_t n_rows = 0;
  const Pattern* pattern = nullptr;
};

struct PatternAttentionArgs {
  int64_t n_heads = 0;
  int64_t n_kv_heads = 0;  // divides n_heads; query head h reads kv head h / (n_heads / n_kv_heads)
  int64_t head_dim = 0;    // 1 to 1024; fastest for multiples of 8
  float scale = 0.0F;      // usually 1 / sqrt(head_dim)
  // Row r of query head h: q + r * q_row_stride + (h / group) * q_group_stride + (h % group) * head_dim,
  // group = n_heads / n_kv_heads. Row r of kv head g: k + r * kv_row_stride + g * kv_head_stride; v alike.
  const float* q = nullptr;
  const float* k = nullptr;
  const float* v = nullptr;
  int64_t q_row_stride = 0;
  int64_t q_group_stride = 0;
  int64_t kv_row_stride = 0;
  int64_t kv_head_stride = 0;
  // Row r of head h: out + r * out_row_stride + h * head_dim.
  float* out = nullptr;
  int64_t out_row_stride = 0;
  // Null, or [rows][n_heads], by row as in q: ln(sum over visible keys of exp(score)), for the backward pass.
  float* log_sum_exp = nullptr;
  // Null, or [n_heads]: slope * (key position - query position) is added to the scaled score (ALiBi).
  const float* alibi_slopes = nullptr;
  std::span<const PatternSequence> sequences{};
};

// Gradients of a loss, given the one of `out`. They are set, not added to, in the rows of the sequences.
struct PatternAttentionGradients {
  const float* d_out = nullptr;  // as out
  int64_t d_out_row_stride = 0;
  float* d_q = nullptr;  // as q, k, v with these strides
  float* d_k = nullptr;
  float* d_v = nullptr;
  int64_t d_q_row_stride = 0;
  int64_t d_q_group_stride = 0;
  int64_t d_kv_row_stride = 0;
  int64_t d_kv_head_stride = 0;
  // False: the same bits for the same number of threads. True: for any number of threads (somewhat slower
  // where there are fewer kv heads than threads).
  bool same_for_any_threads = false;
};

// out = softmax(scale * q k^T + bias) v over what the pattern shows. The result does not depend on the number
// of threads. Scratch memory: the gathered rows, and O(threads * tile).
void pattern_attention(const Context& ctx, const PatternAttentionArgs& args);

// d_q, d_k, d_v from args as pattern_attention left them (out and log_sum_exp are read). Scratch memory:
// O(tasks at a time * (rows + kept rows) * head_dim).
void pattern_attention_backward(const Context& ctx, const PatternAttentionArgs& args,
                                const PatternAttentionGradients& gradients);

// The same by the definition, O(T^2) and in double precision: for tests and `--attention-impl reference`.
void pattern_attention_reference(const Context& ctx, const PatternAttentionArgs& args);
void pattern_attention_backward_reference(const Context& ctx, const PatternAttentionArgs& args,
                                          const PatternAttentionGradients& gradients);

}  // namespace sepllm
