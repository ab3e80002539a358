// What attention by a pattern works on: every document of every sequence as spans of keys, the kept ones
// gathered.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/attention/attention.h"
#include "kernels/attention/pattern_attention.h"

namespace sepllm {

// One document: it attends to itself alone.
struct PatternDocument {
  AttentionSequence attention;    // its spans: [compact,] band, both in f32
  int64_t n_kept = 0;             // rows of the compact span
  const int64_t* kept = nullptr;  // [n_kept] positions in the sequence
};

struct PatternPlan {
  AttentionArgs args;  // all but `sequences`
  std::span<PatternDocument> documents{};
};

// Gathers into ctx.arena. Error-free; bad arguments are checks.
PatternPlan make_pattern_plan(const Context& ctx, const PatternAttentionArgs& args);

// Multiply-adds of one of the products, about: to tell whether threads are worth waking. Saturates.
int64_t pattern_work(const PatternPlan& plan);
int64_t pattern_output_bytes(const PatternPlan& plan);

}  // namespace sepllm
