#include "tensor/arena.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <random>
#include <utility>
#include <vector>

#include "base/check.h"

namespace sepllm {
namespace {

TEST(Arena, BlocksAreAlignedAndApart) {
  Arena arena;
  std::mt19937 rng(1);
  std::vector<std::pair<char*, int64_t>> taken;
  for (int i = 0; i < 300; ++i) {
    const int64_t n = i % 50 == 7 ? 3'000'000 : static_cast<int64_t>(rng() % 5000);
    char* p = arena.allocate<char>(n);
    ASSERT_NE(p, nullptr);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % 64, 0U);
    std::memset(p, i % 251, static_cast<size_t>(n));
    taken.emplace_back(p, n);
  }
  for (size_t i = 0; i < taken.size(); ++i) {
    for (int64_t k = 0; k < taken[i].second; ++k) {
      ASSERT_EQ(static_cast<unsigned char>(taken[i].first[k]), i % 251) << i;
    }
  }
}

TEST(Arena, AScopeGivesBackWhatWasTakenInIt) {
  Arena arena;
  int* kept = arena.allocate<int>(10);
  kept[9] = 42;
  void* first = nullptr;
  for (int round = 0; round < 5; ++round) {
    const Arena::Scope outer(arena);
    int* p = arena.allocate<int>(100);
    if (round == 0) first = p;
    EXPECT_EQ(p, first);
    {
      const Arena::Scope inner(arena);
      EXPECT_GT(arena.allocate<int>(5), p);
    }
  }
  EXPECT_EQ(kept[9], 42);
}

// The second pass of the same shape gets one block; later passes ask the system for nothing.
TEST(Arena, GrowsToItsPeakOnce) {
  Arena arena;
  const auto pass = [&arena] {
    const Arena::Scope scope(arena);
    for (int i = 0; i < 40; ++i) arena.allocate<float>(100'000);
  };
  pass();
  pass();
  const int64_t peak = arena.reserved_bytes();
  EXPECT_GE(peak, 40 * 400'000);
  EXPECT_LE(peak, 3 * 40 * 400'000);
  for (int i = 0; i < 10; ++i) pass();
  EXPECT_EQ(arena.reserved_bytes(), peak);
}

TEST(Arena, ZeroAndImpossibleSizes) {
  Arena arena;
  EXPECT_NE(arena.allocate<double>(0), nullptr);
  EXPECT_THROW(arena.allocate_bytes(-1), CheckFailure);
  EXPECT_THROW(arena.allocate_bytes(INT64_MAX), CheckFailure);
}

}  // namespace
}  // namespace sepllm
