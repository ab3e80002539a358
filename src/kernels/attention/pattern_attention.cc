// Attention by a pattern: turns it into spans, and attention over spans does the rest.
#include "kernels/attention/pattern_attention.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>

#include "kernels/attention/attention_tiles.h"
#include "kernels/attention/pattern_blocks.h"
#include "kernels/attention/pattern_plan.h"

namespace sepllm {

namespace {

// Calls fn for the sequences whose patterns have blocks (or for the others), if there are any.
template <typename Fn>
void for_sequences(const Context& ctx, const PatternAttentionArgs& args, bool with_blocks, const Fn& fn) {
  const auto has = [](const PatternSequence& s) {
    return s.pattern != nullptr && s.pattern->blocks.count > 0;
  };
  const auto n = std::count_if(args.sequences.begin(), args.sequences.end(),
                               [&](const PatternSequence& s) { return has(s) == with_blocks; });
  if (n == 0) return;
  if (n == std::ssize(args.sequences)) return fn(args);
  auto* own = ctx.arena.allocate<PatternSequence>(n);
  std::copy_if(args.sequences.begin(), args.sequences.end(), own,
               [&](const PatternSequence& s) { return has(s) == with_blocks; });
  PatternAttentionArgs part = args;
  part.sequences = {own, static_cast<size_t>(n)};
  fn(part);
}

}  // namespace

void pattern_attention(const Context& ctx, const PatternAttentionArgs& args) {
  const Arena::Scope scope(ctx.arena);
  for_sequences(ctx, args, true, [&](const PatternAttentionArgs& a) { pattern_blocks(ctx, a); });
  for_sequences(ctx, args, false, [&](const PatternAttentionArgs& a) {
    if (ctx.attention == AttentionImpl::kReference) return pattern_attention_reference(ctx, a);
    const AttentionArgs plan = make_pattern_plan(ctx, a);
    // Whole sequences are never split along their keys, with or without log_sum_exp.
    attention_forward(ctx, plan, {.decoding = false, .stream_output = is_large_output(plan)});
  });
}

void pattern_attention_backward(const Context& ctx, const PatternAttentionArgs& args,
                                const AttentionGradients& gradients) {
  const Arena::Scope scope(ctx.arena);
  for_sequences(ctx, args, true,
                [&](const PatternAttentionArgs& a) { pattern_blocks_backward(ctx, a, gradients); });
  for_sequences(ctx, args, false, [&](const PatternAttentionArgs& a) {
    if (ctx.attention == AttentionImpl::kReference)
      return pattern_attention_backward_reference(ctx, a, gradients);
    attention_backward(ctx, make_pattern_plan(ctx, a), gradients);
  });
}

}  // namespace sepllm
