// Softmax attention in which each query sees its own block of keys up to itself, and some of the earlier
// blocks, each whole: those that a selection names. It does not know how they were chosen (block_choice.h is
// one way), nor where blocks come from: their borders are data.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/attention/attention.h"
#include "tensor/context.h"

namespace sepllm {

// What the queries of one AttentionSequence see. The sequence has one span and no lists: a band with an
// unlimited window whose rows are all keys from starts[0] to the position of its last query.
struct BlockSelection {
  // The positions at which blocks begin, ascending, the first at or before every query. A block ends where
  // the next one begins, and the last one with the keys.
  std::span<const int64_t> starts{};
  // [n_rows][n_choosers][n_chosen]: the blocks that a row chose, ascending and each once, all before its own;
  // fewer are followed by -1. Choosers are the query heads, or the kv heads, whose query heads then see the
  // same blocks.
  const int32_t* chosen = nullptr;
  int64_t n_choosers = 0;
  int64_t n_chosen = 0;

  // The choice of a row and query head; `group` is AttentionArgs::group().
  std::span<const int32_t> of(int64_t row, int64_t head, int64_t n_heads, int64_t group) const {
    const int64_t chooser = n_choosers == n_heads ? head : head / group;
    return {chosen + (row * n_choosers + chooser) * n_chosen, static_cast<size_t>(n_chosen)};
  }
};

// As attention(): sets out (and log_sum_exp) for the rows of all sequences; one selection for each of them.
// The work is that of the pairs that are chosen: queries that chose the same block are gathered into tiles.
// Scratch memory: O(threads * (tile + rows of a task * (head_dim + chosen blocks))).
void block_attention(const Context& ctx, const AttentionArgs& args,
                     std::span<const BlockSelection> selections);

// As attention_backward(): sets d_q, d_k, d_v. No gradient flows through the choice. The sequences' KeyRows
// have no copies (checked).
void block_attention_backward(const Context& ctx, const AttentionArgs& args,
                              std::span<const BlockSelection> selections,
                              const AttentionGradients& gradients);

// The same computed directly from the definition, in double precision.
void block_attention_reference(const Context& ctx, const AttentionArgs& args,
                               std::span<const BlockSelection> selections);
void block_attention_backward_reference(const Context& ctx, const AttentionArgs& args,
                                        std::span<const BlockSelection> selections,
                                        const AttentionGradients& gradients);

}  // namespace sepllm
