#include "apps/shell/memory_plan.h"

#include <gtest/gtest.h>

namespace sepllm {
namespace {

Policy policy_of(PolicyKind kind) {
  Policy policy;
  policy.kind = kind;
  return policy;
}

int64_t slots(const Policy& policy, int64_t tokens, int64_t chunk = 100) {
  return planned_slots(policy, 0, 2, tokens, chunk, 0.1);
}

TEST(MemoryPlan, FullAttentionHoldsEverything) {
  EXPECT_EQ(slots(policy_of(PolicyKind::kFull), 12345), 12345);
}

TEST(MemoryPlan, NoPolicyHoldsMoreThanTheTokens) {
  for (const PolicyKind kind : {PolicyKind::kSep, PolicyKind::kSepStream, PolicyKind::kSink,
                                PolicyKind::kSinkStream, PolicyKind::kFixed}) {
    EXPECT_EQ(slots(policy_of(kind), 50), 50);
  }
}

TEST(MemoryPlan, StaticPoliciesHoldTheirKeptTokensTheWindowAndAChunk) {
  EXPECT_EQ(slots(policy_of(PolicyKind::kSink), 10000), 4 + 255 + 100);
  EXPECT_EQ(slots(policy_of(PolicyKind::kSep), 10000), 4 + 1000 + 255 + 100);
  EXPECT_EQ(slots(policy_of(PolicyKind::kFixed), 10000), 4 + 1250 + 255 + 100);
}

TEST(MemoryPlan, LayersHaveTheirOwnWindows) {
  Policy policy = policy_of(PolicyKind::kSink);
  policy.layer_window = {{0, kUnlimited}};
  EXPECT_EQ(planned_slots(policy, 0, 2, 10000, 100, 0.1), 10000);
  EXPECT_EQ(planned_slots(policy, 1, 2, 10000, 100, 0.1), 4 + 255 + 100);
}

TEST(MemoryPlan, StreamingIsBoundedByTheCapacity) {
  EXPECT_EQ(slots(policy_of(PolicyKind::kSepStream), 1000000), 801);
  EXPECT_EQ(slots(policy_of(PolicyKind::kSinkStream), 1000000), 4 + 796 + 100);
  Policy unbounded = policy_of(PolicyKind::kSepStream);
  unbounded.seps_unbounded = true;
  EXPECT_EQ(slots(unbounded, 10000), 801 + 1000 - 64);
}

}  // namespace
}  // namespace sepllm
