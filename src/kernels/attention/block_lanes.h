// What the drivers of attention by blocks share: the keys of a block as a span, and the queries that chose
// each block.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "attention/block_rule.h"
#include "kernels/attention/attention_task.h"
#include "kernels/attention/block_attention.h"
#include "tensor/context.h"

namespace sepllm {

// Bad arguments are failed checks.
void check_blocks(const AttentionArgs& args, std::span<const BlockSelection> selections);

// The keys of block b of a sequence, as a span of their own.
KeySpan block_span(const AttentionSequence& s, const BlockSelection& selection, int64_t b);

// A tile of queries that all see the span: rows [row, row + n_rows) and some heads that share a kv head.
AttentionTask block_task(const AttentionArgs& args, const AttentionSequence& s, const KeySpan* span);

// Calls fn(block, first row, number of rows) for the parts of rows [row, row + n) that lie in one block.
template <typename Fn>
void for_each_own_block(const AttentionSequence& s, const BlockSelection& selection, int64_t row, int64_t n,
                        const Fn& fn) {
  const std::span<const int64_t> starts = selection.starts;
  int64_t b = block_of(starts, s.first_position + row);
  for (int64_t begin = row; begin < row + n; ++b) {
    const bool last = b + 1 == std::ssize(starts);
    const int64_t end =
        last ? row + n : std::min(row + n, starts[static_cast<size_t>(b + 1)] - s.first_position);
    fn(b, begin, end - begin);
    begin = end;
  }
}

// Runs tasks one after the other, of which each knows the next one, so that it can prefetch its keys.
template <typename Task>
class TasksInTurn {
 public:
  explicit TasksInTurn(void (*run)(const Task&)) : run_(run) {}
  // What the task refers to must live until the one after it has been pushed, or the end.
  void push(const Task& task) {
    Task& to = tasks_[n_ % 2];
    to = task;
    if (n_ > 0) run_before(&to);
    ++n_;
  }
  void finish() {
    if (n_ > 0) run_before(nullptr);
    n_ = 0;
  }

 private:
  void run_before(const Task* next) {
    Task& task = tasks_[(n_ + 1) % 2];
    task.next = next;
    run_(task);
  }

  void (*run_)(const Task&);
  Task tasks_[2] = {};
  int64_t n_ = 0;
};

// The queries of some rows and heads, sorted by the blocks that they chose.
class BlockLanes {
 public:
  // Room for so many rows times heads, chosen blocks of each, and blocks, in ctx.arena.
  BlockLanes(const Context& ctx, int64_t n_queries, int64_t n_chosen, int64_t n_blocks);
  BlockLanes() = default;

  // Sorts the queries of rows [row, row + n_rows) and heads [head, head + n_heads).
  void sort(const AttentionArgs& args, const AttentionSequence& s, const BlockSelection& selection,
            int64_t row, int64_t n_rows, int64_t head, int64_t n_heads);
  // Blocks from this one on were chosen by none.
  int64_t n_blocks() const { return n_blocks_; }
  // The queries that chose block b, ascending by rows.
  std::span<const QueryLane> of(int64_t b) const {
    return {lanes_ + ends_[b], static_cast<size_t>(ends_[b + 1] - ends_[b])};
  }

 private:
  QueryLane* lanes_ = nullptr;
  int64_t* ends_ = nullptr;  // [blocks + 2]: block b's queries are lanes_[ends_[b], ends_[b + 1])
  int64_t most_lanes_ = 0, most_blocks_ = 0, n_blocks_ = 0;
};

}  // namespace sepllm
