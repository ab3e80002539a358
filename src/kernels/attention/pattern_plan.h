// A pattern as a source of spans: every document of every sequence as one sequence of attention over spans,
// the keys that stay visible beyond the window gathered into dense rows.
#pragma once

#include "kernels/attention/attention.h"
#include "kernels/attention/pattern_attention.h"

namespace sepllm {

// Spans, lists and gathered rows are in ctx.arena. Error-free; bad arguments are checks.
AttentionArgs make_pattern_plan(const Context& ctx, const PatternAttentionArgs& args);

}  // namespace sepllm
