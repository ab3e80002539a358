#include "train/schedule.h"

#include <gtest/gtest.h>

namespace sepllm {
namespace {

TEST(LrSchedule, WarmsUpAndFallsInEveryStyle) {
  LrSchedule s{.lr = 1.0, .min_lr = 0.1, .warmup_steps = 10, .decay_steps = 110};
  EXPECT_DOUBLE_EQ(s.at(1), 0.1);
  EXPECT_DOUBLE_EQ(s.at(10), 1.0);
  EXPECT_DOUBLE_EQ(s.at(60), 0.55);  // cosine: half way
  EXPECT_NEAR(s.at(35), 0.1 + 0.9 * 0.8535533906, 1e-9);
  EXPECT_DOUBLE_EQ(s.at(110), 0.1);
  EXPECT_DOUBLE_EQ(s.at(1000), 0.1);
  s.style = LrDecayStyle::kLinear;
  EXPECT_NEAR(s.at(35), 0.1 + 0.9 * 0.75, 1e-12);
  s.style = LrDecayStyle::kConstant;
  EXPECT_DOUBLE_EQ(s.at(1000), 1.0);
  s.style = LrDecayStyle::kWsd;
  s.wsd_decay_steps = 20;
  EXPECT_DOUBLE_EQ(s.at(90), 1.0);
  EXPECT_NEAR(s.at(100), 0.55, 1e-12);
  EXPECT_DOUBLE_EQ(s.at(110), 0.1);
  s.warmup_steps = 0;
  EXPECT_DOUBLE_EQ(s.at(1), 1.0);
}

}  // namespace
}  // namespace sepllm
