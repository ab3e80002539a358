#include "attention/key_span.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <random>
#include <set>
#include <vector>

namespace sepllm {
namespace {

TEST(KeySpan, RangesAgreeWithCounting) {
  std::mt19937 rng(1);
  for (int round = 0; round < 500; ++round) {
    KeySpan span;
    std::vector<int64_t> positions;
    const auto first = static_cast<int64_t>(rng() % 20);
    if (rng() % 2 == 0) {
      std::set<int64_t> chosen;
      for (uint32_t k = rng() % 20; k > 0; --k) chosen.insert(static_cast<int64_t>(rng() % 60));
      positions.assign(chosen.begin(), chosen.end());
      span.kind = KeySpan::Kind::kCompact;
      span.positions = positions.data();
    } else {
      const auto n = static_cast<int64_t>(rng() % 30);
      for (int64_t r = 0; r < n; ++r) positions.push_back(first + r);
      span.first_position = first;
    }
    span.n_keys = static_cast<int64_t>(positions.size());
    span.lag = static_cast<int64_t>(rng() % 8);
    span.window = rng() % 3 == 0 ? kUnlimited : 1 + static_cast<int64_t>(rng() % 20);
    KeySpan::Range before{0, 0};
    for (int64_t i = 0; i < 80; ++i) {
      const KeySpan::Range range = span.range(i);
      ASSERT_LE(0, range.lo);
      ASSERT_LE(range.lo, range.hi);
      ASSERT_LE(range.hi, span.n_keys);
      for (int64_t r = 0; r < span.n_keys; ++r) {
        const int64_t p = positions[static_cast<size_t>(r)];
        ASSERT_EQ(span.position(r), p);
        const bool visible = p <= i - span.lag && p > i - span.window;
        ASSERT_EQ(range.lo <= r && r < range.hi, visible)
            << "round " << round << " query " << i << " row " << r;
      }
      // Kernels take the bounds of a tile of rows from its first and last row.
      ASSERT_LE(before.lo, range.lo);
      ASSERT_LE(before.hi, range.hi);
      before = range;
    }
  }
}

// The window is wider than the lag: the compact part holds the kept keys that have left the window.
TEST(KeySpan, CompactAndBandTogetherShowThePattern) {
  constexpr int64_t kTokens = 70;
  std::mt19937 rng(3);
  for (const int64_t window : {1, 2, 9, 69, 500}) {
    Pattern p;
    p.n_initial = 3;
    p.window = window;
    for (int64_t j = 0; j < kTokens; ++j) {
      if (rng() % 5 == 0) p.extra.push_back(j);
    }
    const std::vector<int64_t> kept = p.kept(kTokens);
    KeySpan compact, band;
    compact.kind = KeySpan::Kind::kCompact;
    compact.positions = kept.data();
    compact.n_keys = static_cast<int64_t>(kept.size());
    compact.lag = window;
    band.n_keys = kTokens;
    band.window = window;
    for (int64_t i = 0; i < kTokens; ++i) {
      std::vector<int> seen(kTokens, 0);
      for (int64_t r = compact.range(i).lo; r < compact.range(i).hi; ++r)
        ++seen[static_cast<size_t>(kept[static_cast<size_t>(r)])];
      for (int64_t r = band.range(i).lo; r < band.range(i).hi; ++r) ++seen[static_cast<size_t>(r)];
      for (int64_t j = 0; j < kTokens; ++j) {
        ASSERT_EQ(seen[static_cast<size_t>(j)], p.visible(i, j) ? 1 : 0) << window << " " << i << " " << j;
      }
    }
  }
}

TEST(KeySpan, PlacesOfKeys) {
  const std::vector<int64_t> places = {7, 3, 5};
  KeySpan span;
  span.first_encoded = 10;
  EXPECT_EQ(span.encoded_at(2), 12);
  span.encoded = places.data();
  EXPECT_EQ(span.encoded_at(2), 5);
}

}  // namespace
}  // namespace sepllm
