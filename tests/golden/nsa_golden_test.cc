// Native sparse attention, forward and backward, against PyTorch's autograd over explicit branches (README.md
// here).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "kernels/attention/nsa.h"
#include "kernels/kernel_test_support.h"
#include "kernels/rowwise/gated_sum.h"
#include "tests/support/golden.h"

namespace sepllm::test {
namespace {

class NsaGolden : public testing::TestWithParam<std::string> {
 protected:
  NsaGolden() : file_(golden_folder() + "/nsa/" + GetParam() + ".safetensors") {
    const std::span<const int32_t> s = file_.ints("settings");
    n_heads_ = s[0], n_kv_heads_ = s[1], head_dim_ = s[2], n_tokens_ = s[3];
    rule_ = {.block_size = s[4], .blocks = s[5], .window = s[6]};
    if (file_.has("document_starts")) {
      const std::span<const int32_t> starts = file_.ints("document_starts");
      starts_.assign(starts.begin(), starts.end());
    }
  }

  // [tokens][heads][dim]
  Heads rows(std::vector<float>& values, int64_t n_heads, int64_t dim) const {
    values.assign(static_cast<size_t>(n_tokens_ * n_heads * dim), NAN);
    return {values.data(), n_heads * dim, HeadLayout::dense(n_heads, dim)};
  }
  Heads stored(const char* name, int64_t n_heads) const {
    return {const_cast<float*>(file_.floats(name).data()), n_heads * head_dim_,
            HeadLayout::dense(n_heads, head_dim_)};
  }
  Matrix gates(const float* values) const {
    return {const_cast<float*>(values), n_tokens_, 3 * n_heads_, 3 * n_heads_};
  }

  void expect_result(const std::vector<float>& got, const std::string& name) {
    EXPECT_LE(max_difference(got, file_.floats(name)), 1e-5F) << name;
  }
  // Relative to the largest gradient of the tensor; those that are 0 by definition must be small.
  void expect_gradient(const std::vector<float>& got, const std::string& name) {
    float largest = 0;
    for (const float x : file_.floats(name)) largest = std::max(largest, std::abs(x));
    EXPECT_LE(max_difference(got, file_.floats(name)), 1e-4F * std::max(largest, 0.01F)) << name;
  }

  // The file lists a query's own block too, as the last one of its blocks.
  std::vector<int32_t> without_own_blocks(std::span<const int32_t> all) const {
    std::vector<int32_t> out;
    for (size_t at = 0; at < all.size(); at += static_cast<size_t>(rule_.blocks)) {
      std::vector<int32_t> blocks(all.begin() + static_cast<int64_t>(at),
                                  all.begin() + static_cast<int64_t>(at) + rule_.blocks);
      const auto end = std::find(blocks.begin(), blocks.end(), -1);
      blocks.erase(end - 1);
      out.insert(out.end(), blocks.begin(), blocks.end());
    }
    return out;
  }

  void check(AttentionImpl impl, int n_threads) {
    SCOPED_TRACE(testing::Message() << (impl == AttentionImpl::kSimd ? "simd, " : "reference, ") << n_threads
                                    << " threads");
    Threads t(n_threads);
    t.context.attention = impl;
    const NsaSequence sequence{.n_rows = n_tokens_, .document_starts = starts_};
    std::vector<float> branch[3], sums[3];
    std::vector<int32_t> chosen(static_cast<size_t>(n_tokens_ * n_kv_heads_ * rule_.chosen()));
    NsaArgs a{.rule = rule_,
              .scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_dim_))),
              .q = stored("q", n_heads_),
              .k = stored("k", n_kv_heads_),
              .v = stored("v", n_kv_heads_),
              .selection = chosen.data(),
              .sequences = {&sequence, 1}};
    for (size_t b = 0; b < kNsaBranches; ++b) {
      a.out[b] = rows(branch[b], n_heads_, head_dim_);
      a.log_sum_exp[b] = rows(sums[b], n_heads_, 1);
    }
    nsa_attention(t.context, a);
    EXPECT_EQ(chosen, without_own_blocks(file_.ints("chosen")));
    expect_result(branch[0], "compressed");
    expect_result(branch[1], "selected");
    expect_result(branch[2], "window");
    std::vector<float> out;
    const Heads out_rows = rows(out, n_heads_, head_dim_);
    gated_sum(t.context, gates(file_.floats("gates").data()), a.out, out_rows);
    expect_result(out, "out");
    check_backward(t.context, a);
  }

  void check_backward(const Context& ctx, const NsaArgs& a) {
    std::vector<float> d_branch[3], d_q, d_k, d_v,
        d_gates(static_cast<size_t>(n_tokens_ * 3 * n_heads_), 0.0F);
    NsaGradients g;
    for (size_t b = 0; b < kNsaBranches; ++b) g.d_out[b] = rows(d_branch[b], n_heads_, head_dim_);
    gated_sum_backward(ctx, gates(file_.floats("gates").data()), a.out, stored("d_out", n_heads_),
                       gates(d_gates.data()), g.d_out);
    g.d_q = rows(d_q, n_heads_, head_dim_);
    g.d_k = rows(d_k, n_kv_heads_, head_dim_);
    g.d_v = rows(d_v, n_kv_heads_, head_dim_);
    nsa_attention_backward(ctx, a, g);
    expect_gradient(d_gates, "d_gates");
    expect_gradient(d_q, "d_q");
    expect_gradient(d_k, "d_k");
    expect_gradient(d_v, "d_v");
  }

  GoldenFile file_;
  int64_t n_heads_, n_kv_heads_, head_dim_, n_tokens_;
  NsaRule rule_;
  std::vector<int64_t> starts_;
};

TEST_P(NsaGolden, ForwardAndGradients) {
  check(AttentionImpl::kReference, 1);
  for_each_target([&] {
    check(AttentionImpl::kSimd, 3);
    check(AttentionImpl::kSimd, 1);
  });
}

INSTANTIATE_TEST_SUITE_P(Cases, NsaGolden, testing::ValuesIn(golden_cases("nsa")),
                         [](const auto& info) { return info.param; });

TEST(NsaGolden, AllCasesAreThere) { EXPECT_EQ(golden_cases("nsa").size(), 12U); }

}  // namespace
}  // namespace sepllm::test
