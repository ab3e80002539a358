#include "cache/kv_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/rng.h"
#include "cache/cache_test_support.h"

namespace sepllm {
namespace {

Policy policy_of(PolicyKind kind) {
  Policy policy;
  policy.kind = kind;
  if (policy.streaming()) policy.positions = PositionMode::kCache;
  return policy;
}

constexpr KvLayout kLayout{1, 2, 8, DType::kF16};
constexpr int64_t kSlot = 2 * 2 * 8 * 2;  // bytes

int64_t slots(const Policy& policy, int64_t tokens, int64_t chunk = 100) {
  return plan_kv(kLayout, policy, tokens, chunk, 0.1).peak_bytes / kSlot;
}

TEST(KvPlan, FullAttentionHoldsEverything) {
  EXPECT_EQ(slots(policy_of(PolicyKind::kFull), 12345), 12345);
  EXPECT_EQ(slots(policy_of(PolicyKind::kFull), int64_t{1} << 40), int64_t{1} << 40);
}

TEST(KvPlan, NoPolicyHoldsMoreThanTheTokens) {
  for (const PolicyKind kind : {PolicyKind::kSep, PolicyKind::kSepStream, PolicyKind::kSink,
                                PolicyKind::kSinkStream, PolicyKind::kFixed}) {
    EXPECT_EQ(slots(policy_of(kind), 50), 50);
    EXPECT_EQ(slots(policy_of(kind), 0), 0);
  }
}

// Initial tokens, what is kept beyond the window, the window and a chunk.
TEST(KvPlan, StaticPoliciesHoldTheirKeptTokensTheWindowAndAChunk) {
  EXPECT_EQ(slots(policy_of(PolicyKind::kSink), 10000), 4 + 255 + 100);
  // Separators are counted up to the window of the last query: (10000 - 256) / 10.
  EXPECT_EQ(slots(policy_of(PolicyKind::kSep), 10000), 4 + 974 + 255 + 100);
  EXPECT_EQ(slots(policy_of(PolicyKind::kFixed), 10000), 4 + (10000 - 256 - 4) / 8 + 255 + 100);
}

TEST(KvPlan, LayersHaveTheirOwnWindows) {
  Policy policy = policy_of(PolicyKind::kSink);
  policy.layer_window = {{0, kUnlimited}};
  const KvLayout two{2, 2, 8, DType::kF16};
  EXPECT_EQ(plan_kv(two, policy, 10000, 100, 0.1).peak_bytes, (10000 + 4 + 255 + 100) * kSlot);
}

TEST(KvPlan, StreamingIsBoundedByTheCapacity) {
  EXPECT_EQ(slots(policy_of(PolicyKind::kSepStream), 1000000), 801);
  EXPECT_EQ(slots(policy_of(PolicyKind::kSinkStream), 1000000), 4 + 796 + 100);
  EXPECT_EQ(plan_kv(kLayout, policy_of(PolicyKind::kSepStream), 5000, 512, 1.0).peak_bytes, 801 * kSlot);
}

// Far away the rest is a straight line: the same, but for rounding, as what runs to the end.
TEST(KvPlan, LongStreamsAreExtrapolated) {
  Policy unbounded = policy_of(PolicyKind::kSepStream);
  unbounded.seps_unbounded = true;
  for (const Policy& policy : {policy_of(PolicyKind::kSep), policy_of(PolicyKind::kFixed),
                               policy_of(PolicyKind::kSink), policy_of(PolicyKind::kFull), unbounded}) {
    const int64_t near = slots(policy, int64_t{1} << 18), far = slots(policy, int64_t{1} << 30);
    const int64_t before = slots(policy, int64_t{1} << 17);
    const double expected = static_cast<double>(near) + static_cast<double>(near - before) * (4096 - 1) * 2;
    EXPECT_NEAR(static_cast<double>(far), expected, 1e-3 * expected) << policy_name(policy.kind);
  }
}

// Of a cache that is fed, with the separators where the plan has them.
KvStats run(const KvLayout& layout, const Policy& policy, int64_t tokens, int64_t max_chunk, double share) {
  TokenSet separators(2);
  separators.insert(1);
  KvCache cache(layout, policy, separators);
  std::vector<int32_t> chunk;
  while (cache.length() < tokens) {
    const int64_t n = std::min({tokens - cache.length(), max_chunk, cache.max_chunk()});
    chunk.clear();
    for (int64_t t = cache.length(); t < cache.length() + n; ++t) {
      const double before = std::floor(share * static_cast<double>(t));
      chunk.push_back(std::floor(share * static_cast<double>(t + 1)) > before ? 1 : 0);
    }
    cache.begin_chunk(chunk);
    for (int64_t l = 0; l < layout.n_layers; ++l) cache.rows_written(l);
    cache.end_chunk();
  }
  return cache.stats();
}

TEST(KvPlan, IsWhatACacheComesTo) {
  for (const auto& [name, policy] : test::small_policies()) {
    for (const KvLayout& layout : {KvLayout{3, 2, 8, DType::kF16}, KvLayout{2, 1, 80, DType::kI8}}) {
      for (const auto& [tokens, chunk] : {std::pair{1, 64}, {63, 64}, {700, 64}, {700, 1}, {700, 512}}) {
        for (const double share : {0.0, 0.165, 0.5, 1.0}) {
          const KvPlan plan = plan_kv(layout, policy, tokens, chunk, share);
          const KvStats stats = run(layout, policy, tokens, chunk, share);
          EXPECT_EQ(plan.peak_bytes, stats.peak_bytes)
              << name << " " << tokens << " " << chunk << " " << share;
          EXPECT_EQ(plan.reserved_bytes, stats.reserved_bytes)
              << name << " " << tokens << " " << chunk << " " << share;
        }
      }
    }
  }
}

// Whatever the text: with the worst share it is a bound.
TEST(KvPlan, TheWorstShareIsABound) {
  const KvLayout two{2, 2, 8, DType::kF16};
  for (const auto& [name, policy] : test::small_policies()) {
    const KvPlan most = plan_kv(two, policy, 700, 64, 1.0);
    for (const double share : {0.0, 0.3, 0.9}) {
      const KvPlan plan = plan_kv(two, policy, 700, 64, share);
      EXPECT_LE(plan.peak_bytes, most.peak_bytes) << name;
      EXPECT_LE(plan.reserved_bytes, most.reserved_bytes) << name;
    }
  }
}

// Whatever the tokens and the chunks are, no cache and no mark takes more than this; and it is no more than
// the plan with separators only, the growth of one layer, and a window and a chunk.
TEST(KvPlan, MostBytesAreNeverPassed) {
  const Rng rng(3);
  uint64_t draw = 0;
  const auto next = [&](int64_t n) {
    return static_cast<int64_t>(rng.bits(draw++) % static_cast<uint64_t>(n));
  };
  for (const auto& [name, policy] : test::small_policies()) {
    for (int64_t run = 0; run < 60; ++run) {
      const KvLayout layout{
          3, 2, 8, DType::kI8,
          run % 3 == 0 && name == "full" ? std::vector<int64_t>{0, 9, 0} : std::vector<int64_t>{}};
      const int64_t tokens = 1 + next(run % 2 == 0 ? 40 : 400), max_chunk = 1 + next(50), share = next(5);
      TokenSet separators(2);
      separators.insert(1);
      KvCache cache(layout, policy, separators);
      cache.expect_at_most(tokens);
      const int64_t most = most_kv_bytes(layout, policy, tokens, max_chunk);
      const int64_t most_mark = most_mark_bytes(layout, policy, tokens, max_chunk);
      while (cache.length() < tokens) {
        const int64_t n = std::min({1 + next(max_chunk), cache.max_chunk(), tokens - cache.length()});
        std::vector<int32_t> chunk(static_cast<size_t>(n));
        for (int32_t& id : chunk) id = next(5) < share + 1 ? 1 : 0;
        cache.begin_chunk(chunk);
        cache.end_chunk();
        ASSERT_LE(cache.stats().reserved_bytes, most) << name << " " << cache.length() << "/" << tokens;
        ByteCounter mark;
        cache.save_mark(mark);
        ASSERT_LE(static_cast<int64_t>(mark.count()), most_mark) << name;
      }
      // (Parts that grow by halves, and one layer twice.)
      const int64_t planned = plan_kv(layout, policy, tokens, max_chunk, 1.0).peak_bytes;
      EXPECT_GE(most, planned);
      EXPECT_LE(most, 2 * (planned + 3 * cache.slot_bytes() * (24 + max_chunk))) << name;
    }
  }
}

}  // namespace
}  // namespace sepllm
