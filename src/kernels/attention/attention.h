// Softmax attention of queries over key spans, forward.
#pragma once

#include <cstdint>
#include <span>

#include "attention/key_span.h"
#include "base/dtype.h"
#include "tensor/context.h"
#include "tensor/heads.h"

namespace sepllm {

// The queries of one sequence: rows [first_row, first_row + n_rows) of a batch of q and out, at stream
// positions first_position, first_position + 1, ...
struct AttentionSequence {
  int64_t batch = 0;
  int64_t first_row = 0;
  int64_t n_rows = 0;
  int64_t first_position = 0;
  DType kv_type = DType::kF32;
  std::span<const KeySpan> spans{};         // every query sees at least one key
  const int64_t* encoded = nullptr;         // [n_rows] the queries' places, for ALiBi
  const int64_t* second_encoded = nullptr;  // [n_rows] towards spans with second_query; null: as encoded
};

struct AttentionArgs {
  int64_t n_kv_heads = 0;  // divides the query heads; query head h reads kv head h / group()
  float scale = 0.0F;      // usually 1 / sqrt(head_dim)
  Heads q{};               // head_dim 1 to 1024
  Heads second_q{};        // the queries towards spans with second_query; without data: q
  Heads out{};             // as many heads as q
  // Null, or [n_heads]: slope * (key place - query place) is added to the scaled score.
  const float* alibi_slopes = nullptr;
  std::span<const AttentionSequence> sequences{};

  int64_t n_heads() const { return q.layout.n; }
  int64_t head_dim() const { return q.layout.dim; }
  int64_t group() const { return n_heads() / n_kv_heads; }  // query heads that share a kv head
};

// out = softmax(scale * q k^T + bias) v for every row and head. Threads share heads and tiles of rows; the
// result does not depend on their number. Memory beside the operands: O(threads * tile).
void attention(const Context& ctx, const AttentionArgs& args);

// The same by the definition, one row at a time in double precision.
void attention_reference(const Context& ctx, const AttentionArgs& args);

}  // namespace sepllm
