// Softmax attention of queries over key spans, forward and backward. It does not know where spans come from:
// they may come from KV caches, patterns (pattern_attention.h) or selections that depend on the data.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "attention/key_span.h"
#include "base/dtype.h"
#include "tensor/context.h"
#include "tensor/heads.h"

namespace sepllm {

// The rows of keys and values whose gradients a backward pass computes: rows [first, first + n) of the
// sequence's batch of k and v. A span may read these rows in place, or copies of some of them. There is one
// gradient sum per row: sum r < n belongs to row first + r; sum n + i belongs to the copy of row first +
// copies[i].
struct KeyRows {
  int64_t first = 0;
  int64_t n = 0;
  std::span<const int64_t> copies{};  // ascending
};

// The queries of one sequence: rows [first_row, first_row + n_rows) of a batch of q and out, at stream
// positions first_position, first_position + 1, ...
struct AttentionSequence {
  int64_t batch = 0;
  int64_t first_row = 0;
  int64_t n_rows = 0;
  int64_t first_position = 0;
  DType kv_type = DType::kF32;
  // The keys that queries see: every query must see at least one key in every head. A key must not be in two
  // spans of a query.
  std::span<const KeySpan> spans{};
  // Null: all rows of all kv heads see all spans. Otherwise each kv head g and tile t of tile_rows rows (the
  // last tile may have fewer) has a list of its own: spans [lists[i], lists[i + 1]) with i = g * number of
  // tiles + t.
  const int64_t* lists = nullptr;
  int64_t tile_rows = 0;
  const int64_t* encoded = nullptr;  // [n_rows] the queries' places, for ALiBi
  // [n_rows] the same towards spans with second_query; null: as encoded
  const int64_t* second_encoded = nullptr;
  KeyRows keys{};  // only for a backward pass

  // The spans that a row of the sequence (and every row of its tile) sees in a kv head.
  std::span<const KeySpan> spans_of(int64_t kv_head, int64_t row) const {
    if (lists == nullptr) return spans;
    const int64_t* list = lists + kv_head * ((n_rows + tile_rows - 1) / tile_rows) + row / tile_rows;
    return spans.subspan(static_cast<size_t>(list[0]), static_cast<size_t>(list[1] - list[0]));
  }
};

struct AttentionArgs {
  int64_t n_kv_heads = 0;  // divides the number of query heads; query head h reads kv head h / group()
  float scale = 0.0F;      // usually 1 / sqrt(head_dim)
  Heads q{};               // head_dim 1 to 1024
  Heads second_q{};        // the queries for spans with second_query; without data: q
  Heads out{};             // as many heads as q
  // Without data, or heads of one element: ln(sum of exp(score) over the keys of a query), for the backward
  // pass.
  Heads log_sum_exp{};
  // Null, or [n_heads]: slope * (key place - query place) is added to the scaled score.
  const float* alibi_slopes = nullptr;
  std::span<const AttentionSequence> sequences{};

  int64_t n_heads() const { return q.layout.n; }
  int64_t head_dim() const { return q.layout.dim; }
  int64_t group() const { return n_heads() / n_kv_heads; }  // number of query heads that share a kv head
};

// Gradients of a loss. d_out is given; the others are set, not added to, in the rows of the sequences.
struct AttentionGradients {
  Heads d_out{};              // gradient of out
  Heads d_q{}, d_k{}, d_v{};  // gradients of q, k, v; they may have their own layouts
  // False: the bits depend on the number of threads. True: they do not (somewhat slower if there are fewer kv
  // heads than threads).
  bool same_for_any_threads = false;
};

// out = softmax(scale * q k^T + bias) v for every row and head. Threads share heads and tiles of rows; the
// result does not depend on their number. Memory in addition to the operands: O(threads * tile).
void attention(const Context& ctx, const AttentionArgs& args);

// Sets d_q, d_k, d_v. args are those of attention(), with its results (out and log_sum_exp are read). Only
// for f32 keys without second queries, in sequences whose KeyRows do not overlap. Scratch memory: O(tasks at
// a time * sums * head_dim).
void attention_backward(const Context& ctx, const AttentionArgs& args, const AttentionGradients& gradients);

// The same computed directly from the definition, one row at a time in double precision.
void attention_reference(const Context& ctx, const AttentionArgs& args);
void attention_backward_reference(const Context& ctx, const AttentionArgs& args,
                                  const AttentionGradients& gradients);

}  // namespace sepllm
