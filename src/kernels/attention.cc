#include "kernels/attention.h"

namespace sepllm {

void attention(const Context& ctx, const AttentionArgs& args) { attention_reference(ctx, args); }

}  // namespace sepllm
