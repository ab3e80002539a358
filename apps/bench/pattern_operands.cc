#include "apps/bench/pattern_operands.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "base/rng.h"

namespace sepllm::bench {
namespace {

// Normally distributed values. They repeat, so that long sequences do not wait for the generator; the period
// shares no factor with a row.
Buffer random_values(int64_t n, uint64_t stream) {
  constexpr int64_t kPeriod = 65537;
  Buffer buffer(n * static_cast<int64_t>(sizeof(float)), "operands of the benchmark");
  auto* values = buffer.as<float>();
  const Rng rng(1, stream);
  for (int64_t i = 0; i < std::min(n, kPeriod); ++i) {
    values[i] = static_cast<float>(rng.normal(static_cast<uint64_t>(i)));
  }
  for (int64_t i = kPeriod; i < n; ++i) values[i] = values[i - kPeriod];
  return buffer;
}

Buffer zeros(int64_t n) {
  return Buffer(n * static_cast<int64_t>(sizeof(float)), "operands of the benchmark");
}

}  // namespace

double attention_flops(const AttentionShape& shape, int64_t pairs, AttentionPass pass) {
  const double per_pair =
      (pass == AttentionPass::kForward ? 4.0 : 14.0) * static_cast<double>(shape.head_dim);
  return per_pair * static_cast<double>(pairs) * static_cast<double>(shape.heads);
}

PatternOperands::PatternOperands(const AttentionShape& shape, bool backward) : shape_(shape) {
  const int64_t n_q = shape.tokens * shape.heads * shape.head_dim;
  const int64_t n_kv = shape.tokens * shape.kv_heads * shape.head_dim;
  q_ = random_values(n_q, 0);
  k_ = random_values(n_kv, 1);
  v_ = random_values(n_kv, 2);
  out_ = zeros(n_q);
  if (!backward) return;
  log_sum_exp_ = zeros(shape.tokens * shape.heads);
  d_out_ = random_values(n_q, 3);
  d_q_ = zeros(n_q);
  d_k_ = zeros(n_kv);
  d_v_ = zeros(n_kv);
}

Heads PatternOperands::query_heads(const Buffer& values) const {
  const AttentionShape& s = shape_;
  const int64_t d = s.head_dim, group = s.heads / s.kv_heads, row = s.heads_apart ? group * d : s.heads * d;
  return {values.as<float>(),
          row,
          {.n = s.heads,
           .dim = d,
           .group = group,
           .stride = d,
           .group_stride = s.heads_apart ? s.tokens * row : group * d}};
}

Heads PatternOperands::kv_heads(const Buffer& values) const {
  const AttentionShape& s = shape_;
  const int64_t d = s.head_dim;
  return {values.as<float>(), s.heads_apart ? d : s.kv_heads * d,
          HeadLayout::even(s.kv_heads, d, s.heads_apart ? s.tokens * d : d)};
}

Heads PatternOperands::out_heads(const Buffer& values, int64_t dim) const {
  return {values.as<float>(), shape_.heads * dim, HeadLayout::dense(shape_.heads, dim)};
}

PatternAttentionArgs PatternOperands::args(const PatternSequence& sequence, bool with_statistics) const {
  PatternAttentionArgs args{.scale = 1.0F / std::sqrt(static_cast<float>(shape_.head_dim)),
                            .q = query_heads(q_),
                            .k = kv_heads(k_),
                            .v = kv_heads(v_),
                            .out = out_heads(out_, shape_.head_dim),
                            .sequences = {&sequence, 1}};
  if (with_statistics) args.log_sum_exp = out_heads(log_sum_exp_, 1);
  return args;
}

NsaArgs PatternOperands::nsa_args(const NsaSequence& sequence, const Pattern& pattern) {
  NsaArgs args{.rule = nsa_rule(pattern.blocks),
               .scale = 1.0F / std::sqrt(static_cast<float>(shape_.head_dim)),
               .q = query_heads(q_),
               .k = kv_heads(k_),
               .v = kv_heads(v_),
               .sequences = {&sequence, 1}};
  chosen_.resize(static_cast<size_t>(shape_.tokens * shape_.kv_heads * args.rule.chosen()));
  args.selection = chosen_.data();
  for (size_t b = 0; b < kNsaBranches; ++b) {
    if (branches_[b].bytes() == 0) {
      branches_[b] = zeros(shape_.tokens * shape_.heads * shape_.head_dim);
      branch_sums_[b] = zeros(shape_.tokens * shape_.heads);
    }
    args.out[b] = out_heads(branches_[b], shape_.head_dim);
    args.log_sum_exp[b] = out_heads(branch_sums_[b], 1);
  }
  return args;
}

// The gradient of each branch's output is d_out.
void PatternOperands::run_nsa_backward(const Context& ctx, const Pattern& pattern) {
  const NsaSequence sequence{.n_rows = shape_.tokens};
  const Heads d_out = out_heads(d_out_, shape_.head_dim);
  nsa_attention_backward(ctx, nsa_args(sequence, pattern),
                         {.d_out = {d_out, d_out, d_out},
                          .d_q = query_heads(d_q_),
                          .d_k = kv_heads(d_k_),
                          .d_v = kv_heads(d_v_)});
}

void PatternOperands::run(const Context& ctx, const Pattern& pattern, AttentionPass pass) {
  if (pattern.blocks.nsa()) {
    const NsaSequence sequence{.n_rows = shape_.tokens};
    nsa_attention(ctx, nsa_args(sequence, pattern));
    if (pass == AttentionPass::kForwardBackward) run_nsa_backward(ctx, pattern);
    return;
  }
  const int64_t n_chosen = std::max<int64_t>(0, pattern.blocks.count - 1);
  chosen_.resize(static_cast<size_t>(shape_.tokens * shape_.heads * n_chosen));
  const PatternSequence sequence{
      .first_row = 0, .n_rows = shape_.tokens, .pattern = &pattern, .chosen = chosen_.data()};
  pattern_attention(ctx, args(sequence, pass == AttentionPass::kForwardBackward));
  if (pass == AttentionPass::kForwardBackward) run_backward(ctx, pattern);
}

void PatternOperands::run_backward(const Context& ctx, const Pattern& pattern) {
  SEPLLM_CHECK(d_out_.bytes() > 0);
  if (pattern.blocks.nsa()) return run_nsa_backward(ctx, pattern);
  const PatternSequence sequence{
      .first_row = 0, .n_rows = shape_.tokens, .pattern = &pattern, .chosen = chosen_.data()};
  const PatternAttentionArgs forward = args(sequence, true);
  const AttentionGradients gradients{.d_out = out_heads(d_out_, shape_.head_dim),
                                     .d_q = query_heads(d_q_),
                                     .d_k = kv_heads(d_k_),
                                     .d_v = kv_heads(d_v_)};
  pattern_attention_backward(ctx, forward, gradients);
}

int64_t PatternOperands::bytes(AttentionPass pass) const {
  int64_t forward = q_.bytes() + k_.bytes() + v_.bytes() + out_.bytes();
  for (size_t b = 0; b < kNsaBranches; ++b) forward += branches_[b].bytes() + branch_sums_[b].bytes();
  if (pass == AttentionPass::kForward) return forward;
  return forward + log_sum_exp_.bytes() + d_out_.bytes() + d_q_.bytes() + d_k_.bytes() + d_v_.bytes();
}

}  // namespace sepllm::bench
