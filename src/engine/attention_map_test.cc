#include "engine/attention_map.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

#include "base/error.h"
#include "base/rng.h"

namespace sepllm {
namespace {

constexpr int64_t kTokens = 24;

ModelConfig small_config() {
  ModelConfig config;
  config.n_layers = 2;
  config.n_heads = 4;
  config.n_kv_heads = 2;
  config.head_dim = 3;
  config.layers.resize(2);
  return config;
}

std::vector<float> random_values(int64_t n, uint64_t stream) {
  const Rng rng(7, stream);
  std::vector<float> out(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i)
    out[static_cast<size_t>(i)] = static_cast<float>(rng.normal(static_cast<uint64_t>(i)));
  return out;
}

struct Fixture {
  ModelConfig config = small_config();
  std::vector<int32_t> tokens;
  ClassRule rule{.init = 2, .separators = TokenSet(10), .window = 5};
  ThreadPool pool{2};
  std::vector<float> q = random_values(kTokens * 12, 1), k = random_values(kTokens * 6, 2);

  Fixture() {
    rule.separators.insert(9);
    for (int64_t i = 0; i < kTokens; ++i) tokens.push_back(static_cast<int32_t>(i % 4 == 3 ? 9 : i % 4));
  }
  AttentionMap run(const std::vector<int64_t>& layers, const std::vector<int64_t>& heads, int64_t rows) {
    AttentionMap map(config, tokens, rule, layers, heads, rows, pool);
    map.layer(0, {q.data(), kTokens, 12, 12}, {k.data(), kTokens, 6, 6}, 0.5F);
    map.layer(1, {q.data(), kTokens, 12, 12}, {k.data(), kTokens, 6, 6}, 2.0F);
    return map;
  }
};

double sum(const std::array<double, kTokenClasses>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

TEST(AttentionMap, RowsAndSharesSumToOne) {
  Fixture f;
  const AttentionMap map = f.run({0, 1}, {0, 3}, 10);
  ASSERT_EQ(map.maps().size(), 4U);
  for (const HeadMap& m : map.maps()) {
    ASSERT_EQ(m.weights.size(), 55U);
    for (int64_t i = 0; i < m.n_rows; ++i) {
      double total = 0;
      for (int64_t j = 0; j <= i; ++j) total += static_cast<double>(m.at(i, j));
      EXPECT_NEAR(total, 1.0, 1e-6);
    }
  }
  ASSERT_EQ(map.shares().size(), 2U);
  for (const ClassShares& s : map.shares()) {
    EXPECT_NEAR(sum(s.attention), 1.0, 1e-12);
    EXPECT_NEAR(sum(s.tokens), 1.0, 1e-12);
  }
}

// The softmax over the keys that query 6 sees, the first of them `begin`, and zeros before them.
void expect_softmax(Fixture& f, int64_t begin) {
  const AttentionMap map = f.run({0}, {3}, kTokens);
  // Head 3 of 4 reads kv head 1 of 2: columns 3..5 of the keys.
  const int64_t i = 6;
  std::vector<double> scores(static_cast<size_t>(begin));
  double total = 0;
  for (int64_t j = begin; j <= i; ++j) {
    double s = 0;
    for (int64_t d = 0; d < 3; ++d) {
      s += static_cast<double>(f.q[static_cast<size_t>(i * 12 + 9 + d)]) *
           static_cast<double>(f.k[static_cast<size_t>(j * 6 + 3 + d)]);
    }
    scores.push_back(std::exp(0.5 * s));
    total += scores.back();
  }
  for (int64_t j = 0; j <= i; ++j) {
    EXPECT_NEAR(static_cast<double>(map.maps()[0].at(i, j)), scores[static_cast<size_t>(j)] / total, 1e-6);
  }
}

TEST(AttentionMap, WeightsAreTheSoftmaxOfTheGroupsKeys) {
  Fixture f;
  expect_softmax(f, 0);
}

TEST(AttentionMap, ALayersOwnWindowHidesWhatLiesBeforeIt) {
  Fixture f;
  f.config.layers[0].window = 4;
  expect_softmax(f, 3);
}

TEST(AttentionMap, SlopesFavourNearKeys) {
  const std::vector<float> zeros(12, 0.0F);
  std::vector<double> weights;
  attention_row(zeros.data(), {const_cast<float*>(zeros.data()), 4, 3, 3}, 0, 3, 3, 1.0F, 1.0, &weights);
  ASSERT_EQ(weights.size(), 4U);
  for (size_t j = 0; j + 1 < 4; ++j) EXPECT_NEAR(weights[j + 1] / weights[j], std::exp(1.0), 1e-9);
}

TEST(AttentionMap, EveryKeyIsInTheFirstClassThatFits) {
  const Fixture f;
  EXPECT_EQ(f.rule.classify(8, 1, 9), TokenClass::kInitial);
  EXPECT_EQ(f.rule.classify(8, 7, 9), TokenClass::kSeparator);
  EXPECT_EQ(f.rule.classify(8, 8, 0), TokenClass::kNeighbour);
  EXPECT_EQ(f.rule.classify(8, 4, 0), TokenClass::kNeighbour);
  EXPECT_EQ(f.rule.classify(8, 3, 0), TokenClass::kOther);
}

TEST(AttentionMap, SharesOfTokensCountTheMasks) {
  Fixture f;
  const AttentionMap map = f.run({}, {}, 0);
  std::array<double, kTokenClasses> expected{};
  for (int64_t i = 0; i < kTokens; ++i) {
    for (int64_t j = 0; j <= i; ++j) {
      const size_t c = j < 2 ? 0 : j % 4 == 3 ? 1 : i - j < 5 ? 2 : 3;
      expected[c] += 1.0 / static_cast<double>(i + 1) / static_cast<double>(kTokens);
    }
  }
  for (size_t c = 0; c < kTokenClasses; ++c) EXPECT_NEAR(map.shares()[1].tokens[c], expected[c], 1e-12);
}

TEST(AttentionMap, UnknownLayersAndHeadsAreErrors) {
  Fixture f;
  EXPECT_THROW(f.run({2}, {0}, 4), Error);
  EXPECT_THROW(f.run({0}, {4}, 4), Error);
  EXPECT_THROW(f.run({-1}, {0}, 4), Error);
}

}  // namespace
}  // namespace sepllm
