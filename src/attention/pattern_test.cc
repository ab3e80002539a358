#include "attention/pattern.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <set>
#include <vector>

namespace sepllm {
namespace {

// docs/METHOD.md#visibility, written out: which key each query sees. The documents' starts are found by
// counting.
bool sees(const Pattern& p, int64_t i, int64_t j) {
  int64_t start = 0;
  for (const int64_t s : p.document_starts) {
    if (s <= i) start = s;
  }
  if (j > i || j < start) return false;
  const bool initial = j - start < p.n_initial;
  const bool extra = std::find(p.extra.begin(), p.extra.end(), j) != p.extra.end();
  return initial || extra || i - j < p.window;
}

Pattern random_pattern(std::mt19937& rng, int64_t n_tokens) {
  Pattern p;
  p.n_initial = rng() % 5;
  p.window = rng() % 4 == 0 ? kUnlimited : 1 + static_cast<int64_t>(rng() % 12);
  std::set<int64_t> extra, starts;
  for (uint32_t k = rng() % 12; k > 0; --k) extra.insert(static_cast<int64_t>(rng() % (n_tokens + 5)));
  if (rng() % 2 == 0) {
    for (uint32_t k = 1 + rng() % 4; k > 0; --k) starts.insert(static_cast<int64_t>(rng() % n_tokens));
  }
  p.extra.assign(extra.begin(), extra.end());
  p.document_starts.assign(starts.begin(), starts.end());
  return p;
}

TEST(Pattern, AgreesWithTheDefinition) {
  std::mt19937 rng(1);
  for (int round = 0; round < 300; ++round) {
    const int64_t n = 1 + static_cast<int64_t>(rng() % 40);
    const Pattern p = random_pattern(rng, n);
    int64_t pairs = 0;
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        ASSERT_EQ(p.visible(i, j), sees(p, i, j)) << i << " " << j << " in round " << round;
        pairs += sees(p, i, j) ? 1 : 0;
      }
    }
    ASSERT_EQ(p.visible_pairs(n), pairs) << "round " << round;
  }
}

// Kept positions are those that a query of the same document still sees after its window has passed, however
// late it comes.
TEST(Pattern, KeptIsWhatOutlivesTheWindow) {
  std::mt19937 rng(2);
  for (int round = 0; round < 300; ++round) {
    const int64_t n = 1 + static_cast<int64_t>(rng() % 40);
    const Pattern p = random_pattern(rng, n);
    std::vector<int64_t> want;
    for (int64_t j = 0; j < n; ++j) {
      const bool initial = j - p.document_start(j) < p.n_initial;
      if (initial || std::find(p.extra.begin(), p.extra.end(), j) != p.extra.end()) want.push_back(j);
    }
    ASSERT_EQ(p.kept(n), want) << "round " << round;
  }
}

TEST(Pattern, FullAttentionIsTheTriangle) {
  const Pattern p;
  EXPECT_EQ(p.visible_pairs(100), 100 * 101 / 2);
  EXPECT_TRUE(p.kept(100).empty());
  EXPECT_FALSE(p.visible(3, 4));
}

TEST(Pattern, AWindowOfOneSeesItselfAndTheKept) {
  Pattern p;
  p.n_initial = 2;
  p.window = 1;
  p.extra = {5};
  EXPECT_TRUE(p.visible(9, 9));
  EXPECT_FALSE(p.visible(9, 8));
  EXPECT_TRUE(p.visible(9, 5));
  EXPECT_TRUE(p.visible(9, 1));
  EXPECT_FALSE(p.visible(9, 2));
}

TEST(Pattern, NoTokensNoPairs) {
  EXPECT_EQ(Pattern{}.visible_pairs(0), 0);
  Pattern p;
  p.n_initial = 4;
  EXPECT_TRUE(p.kept(0).empty());
}

}  // namespace
}  // namespace sepllm
