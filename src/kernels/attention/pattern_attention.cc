// Attention by a pattern: turns it into spans, and attention over spans does the rest.
#include "kernels/attention/pattern_attention.h"

#include "kernels/attention/attention_tiles.h"
#include "kernels/attention/pattern_plan.h"

namespace sepllm {

void pattern_attention(const Context& ctx, const PatternAttentionArgs& args) {
  if (ctx.attention == AttentionImpl::kReference) return pattern_attention_reference(ctx, args);
  const Arena::Scope scope(ctx.arena);
  const AttentionArgs plan = make_pattern_plan(ctx, args);
  // Whole sequences are never split along their keys, with or without log_sum_exp.
  attention_forward(ctx, plan, {.decoding = false, .stream_output = is_large_output(plan)});
}

void pattern_attention_backward(const Context& ctx, const PatternAttentionArgs& args,
                                const AttentionGradients& gradients) {
  if (ctx.attention == AttentionImpl::kReference) {
    return pattern_attention_backward_reference(ctx, args, gradients);
  }
  const Arena::Scope scope(ctx.arena);
  attention_backward(ctx, make_pattern_plan(ctx, args), gradients);
}

}  // namespace sepllm
