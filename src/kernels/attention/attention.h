// Softmax attention of queries over key spans, forward and backward. It knows nothing of where spans come
// from: KV caches, patterns (pattern_attention.h) and selections that depend on the data are sources of them.
#pragma once

#include <cstdint>
#include <span>

#include "attention/key_span.h"
#include "base/dtype.h"
#include "tensor/context.h"
#include "tensor/heads.h"

namespace sepllm {

// Rows of keys and values whose gradients a backward pass is to find: rows [first, first + n) of the
// sequence's batch of k and v. A span may read them where they lie, or copies of some of them. Sum r < n is
// of row first + r; sum n + i is of the copy of row first + copies[i].
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
  // What queries see: every one of every head at least one key. A key must not be in two spans of a query.
  std::span<const KeySpan> spans{};
  // Null: all rows of all kv heads see all spans. Else each kv head g and tile t of tile_rows rows (the last
  // may have fewer) has a list of its own: spans [lists[i], lists[i + 1]), i = g * number of tiles + t.
  const int64_t* lists = nullptr;
  int64_t tile_rows = 0;
  const int64_t* encoded = nullptr;         // [n_rows] the queries' places, for ALiBi
  const int64_t* second_encoded = nullptr;  // [n_rows] towards spans with second_query; null: as encoded
  KeyRows keys{};                           // backward only

  // What a row of the sequence sees in a kv head (and all rows of its tile).
  std::span<const KeySpan> spans_of(int64_t kv_head, int64_t row) const {
    if (lists == nullptr) return spans;
    const int64_t* list = lists + kv_head * ((n_rows + tile_rows - 1) / tile_rows) + row / tile_rows;
    return spans.subspan(static_cast<size_t>(list[0]), static_cast<size_t>(list[1] - list[0]));
  }
};

struct AttentionArgs {
  int64_t n_kv_heads = 0;  // divides the query heads; query head h reads kv head h / group()
  float scale = 0.0F;      // usually 1 / sqrt(head_dim)
  Heads q{};               // head_dim 1 to 1024
  Heads second_q{};        // the queries towards spans with second_query; without data: q
  Heads out{};             // as many heads as q
  // Without data, or heads of one element: ln(sum over the keys of a query of exp(score)), for the backward
  // pass.
  Heads log_sum_exp{};
  // Null, or [n_heads]: slope * (key place - query place) is added to the scaled score.
  const float* alibi_slopes = nullptr;
  std::span<const AttentionSequence> sequences{};

  int64_t n_heads() const { return q.layout.n; }
  int64_t head_dim() const { return q.layout.dim; }
  int64_t group() const { return n_heads() / n_kv_heads; }  // query heads that share a kv head
};

// Gradients of a loss, given the one of `out`. They are set, not added to, in the rows of the sequences.
struct AttentionGradients {
  Heads d_out{};              // of out
  Heads d_q{}, d_k{}, d_v{};  // of q, k, v; in layouts of their own
  // False: the same bits for the same number of threads. True: for any number of threads (somewhat slower
  // where there are fewer kv heads than threads).
  bool same_for_any_threads = false;
};

// out = softmax(scale * q k^T + bias) v for every row and head. Threads share heads and tiles of rows; the
// result does not depend on their number. Memory beside the operands: O(threads * tile).
void attention(const Context& ctx, const AttentionArgs& args);

// d_q, d_k, d_v from args as attention() left them (out and log_sum_exp are read), for f32 keys without
// second queries, of sequences whose KeyRows do not overlap. Scratch memory: O(tasks at a time * sums *
// head_dim).
void attention_backward(const Context& ctx, const AttentionArgs& args, const AttentionGradients& gradients);

// The same by the definition, one row at a time in double precision.
void attention_reference(const Context& ctx, const AttentionArgs& args);
void attention_backward_reference(const Context& ctx, const AttentionArgs& args,
                                  const AttentionGradients& gradients);

}  // namespace sepllm
