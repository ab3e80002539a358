// Softmax attention of queries over key spans, forward.
#pragma once

#include <cstdint>
#include <span>

#include "attention/key_span.h"
#include "base/dtype.h"
#include "tensor/context.h"

namespace sepllm {

// The queries of one sequence: rows [first_row, first_row + n_rows) of q and out, at stream positions
// first_position, first_position + 1, ...
struct AttentionSequence {
  int64_t first_row = 0;
  int64_t n_rows = 0;
  int64_t first_position = 0;
  DType kv_type = DType::kF32;
  std::span<const KeySpan> spans{};         // every query sees at least one key
  const int64_t* encoded = nullptr;         // [n_rows] the queries' places, for ALiBi
  const int64_t* second_encoded = nullptr;  // [n_rows] towards spans with second_query; null: as encoded
};

struct AttentionArgs {
  int64_t n_heads = 0;
  int64_t n_kv_heads = 0;  // divides n_heads; query head h reads kv head h / (n_heads / n_kv_heads)
  int64_t head_dim = 0;    // 1 to 1024
  float scale = 0.0F;      // usually 1 / sqrt(head_dim)
  // Query row r of head h: q + r * q_row_stride + (h / group) * q_group_stride + (h % group) * head_dim,
  // group = n_heads / n_kv_heads.
  const float* q = nullptr;
  const float* second_q = nullptr;  // same strides; towards spans with second_query; null: q
  int64_t q_row_stride = 0;
  int64_t q_group_stride = 0;
  // Output row r of head h: out + r * out_row_stride + h * head_dim.
  float* out = nullptr;
  int64_t out_row_stride = 0;
  const float* alibi_slopes =
      nullptr;  // [n_heads]: adds slope * (key place - query place) to the scaled score; null: none
  std::span<const AttentionSequence> sequences{};
};

// out = softmax(scale * q k^T + bias) v for every row and head. Threads share heads and tiles of rows; the
// result does not depend on their number. Memory beside the operands: O(threads * tile).
void attention(const Context& ctx, const AttentionArgs& args);

// The same by the definition, one row at a time in double precision.
void attention_reference(const Context& ctx, const AttentionArgs& args);

}  // namespace sepllm
