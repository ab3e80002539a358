// Turns a pattern into spans: every document of every sequence becomes one sequence of attention over spans,
// and the keys that stay visible beyond the window are gathered into dense rows.
#pragma once

#include "kernels/attention/attention.h"
#include "kernels/attention/pattern_attention.h"

namespace sepllm {

// Spans, lists and gathered rows are in ctx.arena. Throws no Error; bad arguments are failed checks.
AttentionArgs make_pattern_plan(const Context& ctx, const PatternAttentionArgs& args);

}  // namespace sepllm
