// Attention of queries that choose among blocks, forward and backward, against PyTorch's autograd through the
// explicit mask of every head (README.md here).
#include <gtest/gtest.h>

#include <cmath>

#include "attention/layer_rule.h"
#include "kernels/attention/pattern_attention.h"
#include "kernels/kernel_test_support.h"
#include "tests/support/golden.h"

namespace sepllm::test {
namespace {

// Operands and results as the file has them, all dense. The pattern comes from the tokens by the rule.
struct BlockCase {
  explicit BlockCase(const std::string& name)
      : file(golden_folder() + "/block_attention/" + name + ".safetensors") {
    const std::span<const int32_t> s = file.ints("settings");
    n_heads = s[0], n_kv_heads = s[1], head_dim = s[2], n_tokens = s[3], alibi = s[4] != 0;
    const LayerRule rule{.blocks = {.count = s[5], .size = s[6], .at_separators = s[7] > 0, .most = s[7]}};
    std::vector<int32_t> tokens(static_cast<size_t>(n_tokens), 0);
    for (const int64_t j : list("separators")) tokens[static_cast<size_t>(j)] = 1;
    TokenSet separators(2);
    separators.insert(1);
    pattern = rule.pattern(tokens.data(), n_tokens, separators, list("document_starts"));
  }
  std::vector<int64_t> list(const std::string& name) const {
    if (!file.has(name)) return {};
    return {file.ints(name).begin(), file.ints(name).end()};
  }
  Heads rows(const float* data, int64_t n, int64_t dim) const {
    return {const_cast<float*>(data), n * dim, HeadLayout::dense(n, dim)};
  }
  Heads query_rows(const float* data) const { return rows(data, n_heads, head_dim); }
  Heads kv_rows(const float* data) const { return rows(data, n_kv_heads, head_dim); }

  GoldenFile file;
  int64_t n_heads, n_kv_heads, head_dim, n_tokens;
  bool alibi;
  Pattern pattern;
};

class BlockAttentionGolden : public testing::TestWithParam<std::string> {
 protected:
  BlockAttentionGolden() : c_(GetParam()) {}

  void check(AttentionImpl impl, int n_threads) {
    SCOPED_TRACE(testing::Message() << (impl == AttentionImpl::kSimd ? "simd, " : "reference, ") << n_threads
                                    << " threads");
    Threads t(n_threads);
    t.context.attention = impl;
    const int64_t n_chosen = c_.pattern.blocks.count - 1;
    std::vector<int32_t> chosen(static_cast<size_t>(c_.n_tokens * c_.n_heads * n_chosen), 77);
    const PatternSequence sequence{.n_rows = c_.n_tokens, .pattern = &c_.pattern, .chosen = chosen.data()};
    const auto q_size = static_cast<size_t>(c_.n_tokens * c_.n_heads * c_.head_dim);
    const auto kv_size = static_cast<size_t>(c_.n_tokens * c_.n_kv_heads * c_.head_dim);
    std::vector<float> out(q_size), log_sum_exp(static_cast<size_t>(c_.n_tokens * c_.n_heads));
    const PatternAttentionArgs a{
        .scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(c_.head_dim))),
        .q = c_.query_rows(c_.file.floats("q").data()),
        .k = c_.kv_rows(c_.file.floats("k").data()),
        .v = c_.kv_rows(c_.file.floats("v").data()),
        .out = c_.query_rows(out.data()),
        .log_sum_exp = c_.rows(log_sum_exp.data(), c_.n_heads, 1),
        .alibi_slopes = c_.alibi ? c_.file.floats("slopes").data() : nullptr,
        .sequences = {&sequence, 1}};
    pattern_attention(t.context, a);
    if (n_chosen > 0) {
      const std::span<const int32_t> expected = c_.file.ints("chosen");
      EXPECT_TRUE(std::equal(chosen.begin(), chosen.end(), expected.begin(), expected.end()));
    }
    EXPECT_LE(max_difference(out, c_.file.floats("out")), 1e-5F);
    EXPECT_LE(max_difference(log_sum_exp, c_.file.floats("log_sum_exp")), 1e-5F);

    std::vector<float> d_q(q_size), d_k(kv_size), d_v(kv_size);
    pattern_attention_backward(t.context, a,
                               {.d_out = c_.query_rows(c_.file.floats("d_out").data()),
                                .d_q = c_.query_rows(d_q.data()),
                                .d_k = c_.kv_rows(d_k.data()),
                                .d_v = c_.kv_rows(d_v.data())});
    for (const auto& [name, got] : {std::pair("d_q", &d_q), std::pair("d_k", &d_k), std::pair("d_v", &d_v)}) {
      float largest = 0.01F;
      for (const float x : c_.file.floats(name)) largest = std::max(largest, std::abs(x));
      EXPECT_LE(max_difference(*got, c_.file.floats(name)), 1e-4F * largest) << name;
    }
  }

  BlockCase c_;
};

TEST_P(BlockAttentionGolden, BlocksChoiceForwardAndGradients) {
  EXPECT_EQ(c_.pattern.blocks.starts, c_.list("starts"));
  check(AttentionImpl::kReference, 1);
  for_each_target([&] {
    check(AttentionImpl::kSimd, 3);
    check(AttentionImpl::kSimd, 1);
  });
}

INSTANTIATE_TEST_SUITE_P(Cases, BlockAttentionGolden, testing::ValuesIn(golden_cases("block_attention")),
                         [](const auto& info) { return info.param; });

TEST(BlockAttentionGolden, AllCasesAreThere) { EXPECT_EQ(golden_cases("block_attention").size(), 15U); }

}  // namespace
}  // namespace sepllm::test
