// How MoBA chooses blocks (docs/METHOD.md#blocks): each query and query head takes the earlier blocks whose
// mean key has the largest product with it.
#pragma once

#include <cstdint>
#include <span>

#include "attention/key_span.h"
#include "base/dtype.h"
#include "kernels/attention/attention.h"
#include "tensor/context.h"
#include "tensor/heads.h"

namespace sepllm {

// The mean of rows [row, row + n) of a band's keys of one kv head, as they are stored: to[head_dim]. Rows are
// added in order in f32, so that the bits depend only on the rows.
void block_mean(const KeySpan& keys, DType type, int64_t kv_head, int64_t row, int64_t n, int64_t head_dim,
                float* to);

// The queries of one sequence, and the blocks that they choose from.
struct BlockChoice {
  Heads q{};  // rows [first_row, first_row + n_rows) of a batch, at positions first_position, ...
  int64_t batch = 0, first_row = 0, n_rows = 0, first_position = 0;
  int64_t n_kv_heads = 0;             // divides the number of query heads
  std::span<const int64_t> starts{};  // as BlockSelection::starts
  // The mean key of block b and kv head g is at means + (b * n_kv_heads + g) * head_dim, for all blocks that
  // end before the last query's own.
  const float* means = nullptr;
  int64_t n_chosen = 0;  // the most blocks that a query chooses, in addition to its own
};

// Sets chosen[n_rows][heads of q][n_chosen] (as BlockSelection::chosen): the blocks before the query's own
// with the largest products of query and mean; of equal ones the earliest. A product that is not a number, or
// is minus infinity, is never chosen. A query's choice depends neither on the other rows nor on the number of
// threads.
void choose_blocks(const Context& ctx, const BlockChoice& choice, int32_t* chosen);

// The same from the definition, with products in double precision.
void choose_blocks_reference(const Context& ctx, const BlockChoice& choice, int32_t* chosen);

// One tile of choose_blocks: rows [row, row + n) and the query heads of a kv head. scratch:
// choose_blocks_scratch() floats, 64-byte aligned.
void choose_blocks_tile(const BlockChoice& choice, int64_t row, int64_t n, int64_t kv_head, float* scratch,
                        int32_t* chosen);
int64_t choose_blocks_scratch(int64_t head_dim, int64_t n_blocks, int64_t n_chosen);

}  // namespace sepllm
