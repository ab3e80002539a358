// Attention by blocks as attention over spans: every row and query head gets a list of spans of its own. This
// is the way of few rows, whose work is to read keys, and of the reference.
#pragma once

#include <span>

#include "kernels/attention/attention.h"
#include "kernels/attention/block_attention.h"
#include "tensor/context.h"

namespace sepllm {

// The same attention with a kv head for each query head, all in ctx.arena. Neighbouring blocks are one span.
AttentionArgs as_lists(const Context& ctx, const AttentionArgs& args,
                       std::span<const BlockSelection> selections);

}  // namespace sepllm
