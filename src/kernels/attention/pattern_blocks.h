// Attention by a pattern with blocks (Pattern::Blocks): the means of the keys, the choice of each query, and
// attention by that choice.
#pragma once

#include <span>

#include "kernels/attention/attention.h"
#include "kernels/attention/pattern_attention.h"
#include "tensor/context.h"

namespace sepllm {

// As pattern_attention() and pattern_attention_backward(), for sequences whose patterns all have blocks. The
// implementation is the one that the context asks for. The backward pass reads PatternSequence::chosen, which
// the forward pass has set.
void pattern_blocks(const Context& ctx, const PatternAttentionArgs& args);
void pattern_blocks_backward(const Context& ctx, const PatternAttentionArgs& args,
                             const AttentionGradients& gradients);

}  // namespace sepllm
