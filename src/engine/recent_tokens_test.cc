#include "engine/recent_tokens.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/sampler.h"

namespace sepllm {
namespace {

std::vector<int32_t> after(int64_t limit, const std::vector<int32_t>& prompt, int n_more) {
  RecentTokens recent(limit);
  recent.add(prompt);
  for (int32_t k = 0; k < n_more; ++k) recent.add(100 + k % 10);
  return {recent.tokens().begin(), recent.tokens().end()};
}

TEST(RecentTokens, TheLastOnesAreThereInOrder) {
  using Ids = std::vector<int32_t>;
  EXPECT_EQ(after(0, {1, 2, 3}, 50), Ids{});
  EXPECT_EQ(after(2, {1, 2, 3}, 0), (Ids{2, 3}));
  EXPECT_EQ(after(5, {1, 2, 3}, 1), (Ids{1, 2, 3, 100}));
  for (const int n : {3, 17, 1000}) {
    const Ids ids = after(4, {1}, n);
    ASSERT_GE(ids.size(), static_cast<size_t>(std::min(n + 1, 4)));
    EXPECT_LE(ids.size(), 8U);
    EXPECT_EQ(ids.back(), 100 + (n - 1) % 10);
    EXPECT_EQ(ids[ids.size() - 2], 100 + (n - 2) % 10);
  }
}

TEST(RecentTokens, OfTheWholeContextEachTokenIsThereOnce) {
  EXPECT_EQ(after(SamplingSettings::kWholeContext, {5, 3, 5, 3, 3}, 1000),
            (std::vector<int32_t>{5, 3, 100, 101, 102, 103, 104, 105, 106, 107, 108, 109}));
}

}  // namespace
}  // namespace sepllm
