#include "engine/walk_choice.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstdint>
#include <vector>

#include "engine/session_test_support.h"
#include "engine/walk_file.h"
#include "tests/support/expect_error.h"

namespace sepllm {
namespace {

class WalkChoice : public test::SessionStateTest {
 protected:
  WalkRules rules(WalkMode mode) const {
    return {.mode = mode, .file = folder_.path() + "/cache/walks.json", .least_bytes = 1};
  }
  std::vector<float> logits_of(Model* model) {
    Session fed(*model, all_settings()[1].second, ctx_);
    return advance_to(fed, 50);
  }
};

TEST_F(WalkChoice, IsRememberedAndDoesNotChangeBits) {
  const std::vector<float> before = logits_of(model_.get());
  const std::vector<ChosenWalk> first = choose_walks(ctx_, &model_->decoder, rules(WalkMode::kOn));
  ASSERT_FALSE(first.empty());
  EXPECT_EQ(first[0].measured.size(), candidate_walks().size());
  for (const Weight* w : model_->decoder.multiplied_matrices()) EXPECT_EQ(w->walk, first[0].walk);
  EXPECT_EQ(logits_of(model_.get()), before);

  // Another one than would be measured, so that it is seen where it comes from.
  WalkFile file(rules(WalkMode::kOn).file, walk_machine());
  ASSERT_EQ(file.walks().size(), first.size());
  file.put({file.walks()[0].key, {8, 1024}, 5});
  file.save();
  const std::vector<ChosenWalk> second = choose_walks(ctx_, &model_->decoder, rules(WalkMode::kOn));
  ASSERT_FALSE(second.empty());
  EXPECT_TRUE(second[0].measured.empty());
  EXPECT_EQ(second[0].walk, (Walk{8, 1024}));
  for (const Weight* w : model_->decoder.multiplied_matrices()) EXPECT_EQ(w->walk, (Walk{8, 1024}));
  EXPECT_EQ(logits_of(model_.get()), before);

  EXPECT_FALSE(choose_walks(ctx_, &model_->decoder, rules(WalkMode::kAgain))[0].measured.empty());
}

TEST_F(WalkChoice, IsNotMadeForFewBytesOrWhenItIsOff) {
  WalkRules few = rules(WalkMode::kOn);
  few.least_bytes = int64_t{1} << 40;
  EXPECT_TRUE(choose_walks(ctx_, &model_->decoder, few).empty());
  EXPECT_TRUE(choose_walks(ctx_, &model_->decoder, rules(WalkMode::kOff)).empty());
  for (const Weight* w : model_->decoder.multiplied_matrices()) EXPECT_EQ(w->walk, Walk{});
}

TEST_F(WalkChoice, ReadsTheEnvironment) {
  const auto mode_of = [](const char* value) {
    setenv("SEPLLM_WALKS", value, 1);
    return walk_mode();
  };
  EXPECT_EQ(mode_of("off"), WalkMode::kOff);
  EXPECT_EQ(mode_of("again"), WalkMode::kAgain);
  EXPECT_EQ(mode_of("on"), WalkMode::kOn);
  EXPECT_EQ(mode_of(""), WalkMode::kOn);
  test::expect_error([&] { mode_of("fast"); }, ErrorCode::kInvalidArgument,
                     {"SEPLLM_WALKS", "fast", "again"});
  unsetenv("SEPLLM_WALKS");
}

}  // namespace
}  // namespace sepllm
