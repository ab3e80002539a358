// NSA for any source of keys: whole sequences, or KV caches.
#pragma once

#include <cstdint>
#include <span>

#include "attention/key_span.h"
#include "base/dtype.h"
#include "kernels/attention/attention.h"
#include "kernels/attention/block_attention.h"
#include "kernels/attention/nsa.h"

namespace sepllm {

// Queries of one document: rows [first_row, first_row + n_rows) of a batch, at the positions first_position,
// first_position + 1, ... of the document; and the keys that the document has up to the last of them.
struct NsaQueries {
  int64_t batch = 0;
  int64_t first_row = 0;
  int64_t n_rows = 0;  // >= 1
  int64_t first_position = 0;
  KeySpan keys{};  // row r is the key at position r; only pointers, strides, scales and n_keys are read
  DType kv_type = DType::kF32;
  // Row b: the means of the keys and of the values of block b, for every block that is complete for the last
  // query. f32, in evenly spaced heads with the same layout for both.
  Heads mean_k{}, mean_v{};
  int32_t* selection = nullptr;  // [n_rows][kv heads][rule.chosen()]

  int64_t position(int64_t row) const { return first_position + row; }
  int64_t complete(const NsaRule& rule) const { return rule.complete(position(n_rows - 1)); }
};

struct NsaPlan {
  NsaRule rule;
  float scale = 0.0F;
  int64_t n_kv_heads = 0;
  Heads q{};
  NsaHeads out{}, log_sum_exp{};
  std::span<const NsaQueries> queries{};

  int64_t group() const { return q.layout.n / n_kv_heads; }
};

// Sets the selections.
void nsa_select(const Context& ctx, const NsaPlan& plan);

// One branch as attention over spans, which lie in ctx.arena. Of the compressed branch, only the rows that
// see a block are part. KeyRows: the keys of queries are the rows from their first_row on; the blocks of the
// compressed branch are rows of their own, the documents' one after the other.
AttentionArgs nsa_branch(const Context& ctx, const NsaPlan& plan, NsaBranch branch);
// What the sequences of the selected branch see (block_attention.h): the selections.
std::span<const BlockSelection> nsa_selections(const Context& ctx, const NsaPlan& plan);

// The selections and the three branches. `decoding` as in ForwardOptions.
void nsa_forward(const Context& ctx, const NsaPlan& plan, bool decoding);

}  // namespace sepllm
