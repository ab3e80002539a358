// Attention by a pattern, forward and backward, against PyTorch's autograd through the explicit mask
// (README.md here).
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/attention/pattern_attention.h"
#include "kernels/kernel_test_support.h"
#include "tests/support/golden.h"

namespace sepllm::test {
namespace {

// Operands and results as the file has them, all dense.
struct Case {
  explicit Case(const std::string& name) : file(golden_folder() + "/attention/" + name + ".safetensors") {
    const std::span<const int32_t> s = file.ints("settings");
    n_heads = s[0], n_kv_heads = s[1], head_dim = s[2], n_tokens = s[3];
    pattern.n_initial = s[4];
    if (s[5] >= 0) pattern.window = s[5];
    alibi = s[6] != 0;
    if (file.has("extra")) pattern.extra.assign(file.ints("extra").begin(), file.ints("extra").end());
    if (file.has("document_starts")) {
      const std::span<const int32_t> starts = file.ints("document_starts");
      pattern.document_starts.assign(starts.begin(), starts.end());
    }
  }

  // [n_tokens][heads][head_dim]
  Heads query_rows(const float* data) const {
    return {const_cast<float*>(data), n_heads * head_dim, HeadLayout::dense(n_heads, head_dim)};
  }
  Heads kv_rows(const float* data) const {
    return {const_cast<float*>(data), n_kv_heads * head_dim, HeadLayout::dense(n_kv_heads, head_dim)};
  }
  PatternAttentionArgs args() const {
    return {.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_dim))),
            .q = query_rows(file.floats("q").data()),
            .k = kv_rows(file.floats("k").data()),
            .v = kv_rows(file.floats("v").data()),
            .alibi_slopes = alibi ? file.floats("slopes").data() : nullptr};
  }

  GoldenFile file;
  int64_t n_heads, n_kv_heads, head_dim, n_tokens;
  bool alibi;
  Pattern pattern;
};

class AttentionGolden : public testing::TestWithParam<std::string> {
 protected:
  AttentionGolden() : c_(GetParam()) {}

  // Relative to the largest gradient of the tensor. Gradients that are 0 by definition (one key: d_q, d_k)
  // must be small.
  void expect_gradient(const std::vector<float>& got, const std::string& name) {
    float largest = 0;
    for (const float x : c_.file.floats(name)) largest = std::max(largest, std::abs(x));
    const float error = max_difference(got, c_.file.floats(name));
    EXPECT_LE(error, 1e-4F * std::max(largest, 0.01F)) << name;
    if (largest > 0) RecordProperty(name, testing::PrintToString(error / largest));
  }

  void check(AttentionImpl impl, int n_threads) {
    SCOPED_TRACE(testing::Message() << (impl == AttentionImpl::kSimd ? "simd, " : "reference, ") << n_threads
                                    << " threads");
    Threads t(n_threads);
    t.context.attention = impl;
    const PatternSequence sequence{.n_rows = c_.n_tokens, .pattern = &c_.pattern};
    PatternAttentionArgs a = c_.args();
    const auto q_size = static_cast<size_t>(c_.n_tokens * c_.n_heads * c_.head_dim);
    const auto kv_size = static_cast<size_t>(c_.n_tokens * c_.n_kv_heads * c_.head_dim);
    std::vector<float> out(q_size), log_sum_exp(static_cast<size_t>(c_.n_tokens * c_.n_heads));
    a.out = c_.query_rows(out.data());
    a.log_sum_exp = {log_sum_exp.data(), c_.n_heads, HeadLayout::dense(c_.n_heads, 1)};
    a.sequences = {&sequence, 1};
    pattern_attention(t.context, a);
    const float error = max_difference(out, c_.file.floats("out"));
    const float sums_error = max_difference(log_sum_exp, c_.file.floats("log_sum_exp"));
    EXPECT_LE(error, 1e-5F);
    EXPECT_LE(sums_error, 1e-5F);
    RecordProperty("out", testing::PrintToString(error));
    RecordProperty("log_sum_exp", testing::PrintToString(sums_error));

    std::vector<float> d_q(q_size), d_k(kv_size), d_v(kv_size);
    pattern_attention_backward(t.context, a,
                               {.d_out = c_.query_rows(c_.file.floats("d_out").data()),
                                .d_q = c_.query_rows(d_q.data()),
                                .d_k = c_.kv_rows(d_k.data()),
                                .d_v = c_.kv_rows(d_v.data())});
    expect_gradient(d_q, "d_q");
    expect_gradient(d_k, "d_k");
    expect_gradient(d_v, "d_v");
  }

  Case c_;
};

TEST_P(AttentionGolden, ForwardAndGradients) {
  check(AttentionImpl::kReference, 1);
  for_each_target([&] {
    check(AttentionImpl::kSimd, 3);
    check(AttentionImpl::kSimd, 1);
  });
}

INSTANTIATE_TEST_SUITE_P(Cases, AttentionGolden, testing::ValuesIn(golden_cases("attention")),
                         [](const auto& info) { return info.param; });

TEST(AttentionGolden, AllCasesAreThere) { EXPECT_EQ(golden_cases("attention").size(), 14U); }

}  // namespace
}  // namespace sepllm::test
