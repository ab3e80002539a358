#include "kernels/attention/pattern_blocks.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>

#include "attention/block_rule.h"
#include "base/check.h"
#include "kernels/attention/block_attention.h"
#include "kernels/attention/block_choice.h"
#include "kernels/attention/pattern_plan.h"
#include "kernels/parallel.h"

namespace sepllm {
namespace {

// The documents of all sequences as sequences of attention over spans, each with its selection, whose choice
// has memory.
struct BlockPlan {
  AttentionArgs args;
  BlockSelection* selections;
  std::span<const BlockSelection> all() const { return {selections, args.sequences.size()}; }
};

// The blocks of the document [begin, end).
std::span<const int64_t> starts_of(const Pattern& p, int64_t begin, int64_t end) {
  const std::span<const int64_t> all(p.blocks.starts);
  const auto first = std::lower_bound(all.begin(), all.end(), begin);
  const auto last = std::lower_bound(first, all.end(), end);
  SEPLLM_CHECK(first != last && *first == begin);
  return {first, last};
}

BlockPlan make_block_plan(const Context& ctx, const PatternAttentionArgs& a, bool backward) {
  BlockPlan plan{make_pattern_plan(ctx, a), nullptr};
  plan.selections = ctx.arena.allocate<BlockSelection>(std::ssize(plan.args.sequences));
  size_t next = 0;
  for (const PatternSequence& s : a.sequences) {
    const Pattern& p = *s.pattern;
    SEPLLM_CHECK(p.blocks.count >= 1 && p.window == kUnlimited);
    SEPLLM_CHECK(!backward || s.chosen != nullptr || p.blocks.count == 1);
    const int64_t n_chosen = p.blocks.count - 1, per_row = a.q.layout.n * n_chosen;
    int32_t* chosen = s.chosen != nullptr ? s.chosen : ctx.arena.allocate<int32_t>(s.n_rows * per_row);
    for (int64_t row = 0; row < s.n_rows;) {
      const AttentionSequence& document = plan.args.sequences[next];
      plan.selections[next++] = {.starts = starts_of(p, row, row + document.n_rows),
                                 .chosen = chosen + row * per_row,
                                 .n_choosers = a.q.layout.n,
                                 .n_chosen = n_chosen};
      row += document.n_rows;
    }
  }
  SEPLLM_CHECK(next == plan.args.sequences.size());
  return plan;
}

// The means of all complete blocks: [blocks][kv heads][head_dim].
const float* means_of(const Context& ctx, const AttentionArgs& args, const AttentionSequence& s,
                      std::span<const int64_t> starts) {
  const int64_t n = std::ssize(starts) - 1, dim = args.head_dim();
  float* means = ctx.arena.allocate<float>(n * args.n_kv_heads * dim);
  parallel_for(ctx, n * args.n_kv_heads, s.n_rows * args.n_kv_heads * dim, [&](int64_t task, int) {
    const auto b = static_cast<size_t>(task / args.n_kv_heads);
    block_mean(s.spans[0], s.kv_type, task % args.n_kv_heads, starts[b] - starts[0],
               starts[b + 1] - starts[b], dim, means + task * dim);
  });
  return means;
}

}  // namespace

void pattern_blocks(const Context& ctx, const PatternAttentionArgs& a) {
  const Arena::Scope scope(ctx.arena);
  const BlockPlan plan = make_block_plan(ctx, a, /*backward=*/false);
  for (size_t i = 0; i < plan.args.sequences.size(); ++i) {
    const AttentionSequence& s = plan.args.sequences[i];
    const BlockSelection& selection = plan.selections[i];
    if (selection.n_chosen == 0) continue;
    const Arena::Scope of_means(ctx.arena);
    choose_blocks(ctx,
                  {.q = plan.args.q,
                   .batch = s.batch,
                   .first_row = s.first_row,
                   .n_rows = s.n_rows,
                   .first_position = s.first_position,
                   .n_kv_heads = plan.args.n_kv_heads,
                   .starts = selection.starts,
                   .means = means_of(ctx, plan.args, s, selection.starts),
                   .n_chosen = selection.n_chosen},
                  const_cast<int32_t*>(selection.chosen));  // the plan's own memory
  }
  block_attention(ctx, plan.args, plan.all());
}

void pattern_blocks_backward(const Context& ctx, const PatternAttentionArgs& a,
                             const AttentionGradients& gradients) {
  const Arena::Scope scope(ctx.arena);
  const BlockPlan plan = make_block_plan(ctx, a, /*backward=*/true);
  block_attention_backward(ctx, plan.args, plan.all(), gradients);
}

}  // namespace sepllm
