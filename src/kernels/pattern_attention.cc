// Attention by a pattern: chooses the implementation that the context asks for.
#include "kernels/pattern_attention.h"

namespace sepllm {

void pattern_attention(const Context& ctx, const PatternAttentionArgs& args) {
  pattern_attention_reference(ctx, args);
}

void pattern_attention_backward(const Context& ctx, const PatternAttentionArgs& args,
                                const PatternAttentionGradients& gradients) {
  pattern_attention_backward_reference(ctx, args, gradients);
}

}  // namespace sepllm
