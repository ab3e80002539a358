#include "base/rng.h"

#include <gtest/gtest.h>

#include <cstdint>

namespace sepllm {
namespace {

TEST(Rng, DependsOnSeedStreamAndCounterOnly) {
  const Rng a(1, 2), same(1, 2), seed(3, 2), stream(1, 3);
  EXPECT_EQ(a.bits(10), same.bits(10));
  EXPECT_NE(a.bits(10), a.bits(11));
  EXPECT_NE(a.bits(10), seed.bits(10));
  EXPECT_NE(a.bits(10), stream.bits(10));
}

TEST(Rng, UniformAndNormalHaveTheirMoments) {
  const Rng rng(7);
  constexpr int kN = 200000;
  double mean = 0.0, normal_mean = 0.0, normal_square = 0.0;
  for (int k = 0; k < kN; ++k) {
    const double u = rng.uniform(static_cast<uint64_t>(k));
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    mean += u;
    const double z = rng.normal(static_cast<uint64_t>(k));
    normal_mean += z;
    normal_square += z * z;
  }
  EXPECT_NEAR(mean / kN, 0.5, 0.003);
  EXPECT_NEAR(normal_mean / kN, 0.0, 0.01);
  EXPECT_NEAR(normal_square / kN, 1.0, 0.02);
}

}  // namespace
}  // namespace sepllm
