#include "engine/scheduler.h"

#include <gtest/gtest.h>

#include <map>

#include "base/error.h"
#include "base/rng.h"
#include "engine/generator.h"
#include "model/random_model.h"
#include "tests/support/allocations.h"
#include "tests/support/support.h"

namespace sepllm {
namespace {

class SchedulerTest : public ::testing::Test {
 protected:
  SchedulerTest() {
    write_random_model(
        folder_.path(),
        {.variant = "llama", .seed = 3, .hidden_size = 64, .n_layers = 2, .max_positions = 4000});
    model_ = std::make_unique<Model>(load_model(folder_.path(), ""));
  }

  // Requests of all policies, with prompts of several lengths, greedy and sampled.
  std::vector<SchedulerRequest> requests() const {
    std::vector<SchedulerRequest> out;
    for (const PolicyKind kind : {PolicyKind::kFull, PolicyKind::kSep, PolicyKind::kSepStream,
                                  PolicyKind::kSink, PolicyKind::kSinkStream}) {
      for (const int64_t length : {1, 9, 70, 151}) {
        SchedulerRequest r;
        r.policy.policy.kind = kind;
        r.policy.policy.window = 12;
        r.policy.policy.seps = 8;
        r.policy.policy.capacity = 40;
        if (r.policy.policy.streaming()) r.policy.policy.positions = PositionMode::kCache;
        r.policy.prefill_chunk = 32;
        if (length % 2 == 0) r.sampling = {.temperature = 1.0, .repeat_penalty = 1.1, .seed = length};
        const Rng rng(static_cast<uint64_t>(length));
        for (int64_t k = 0; k < length; ++k)
          r.generate.prompt.push_back(static_cast<int32_t>(rng.bits(static_cast<uint64_t>(k)) % 256));
        r.generate.max_new_tokens = 20 + length % 17;
        r.generate.ignore_eos = true;
        out.push_back(r);
      }
    }
    return out;
  }

  GenerateResult alone(const SchedulerRequest& r, const Context& ctx) const {
    Session session(*model_, r.policy, ctx);
    Sampler sampler(r.sampling, model_->config().vocab_size);
    return generate(session, sampler, r.generate, {});
  }

  test::TemporaryFolder folder_;
  std::unique_ptr<Model> model_;
  ThreadPool one_{1}, two_{2};
  Arena arena_, other_arena_;
  Context single_{one_, arena_}, pair_{two_, other_arena_};
};

TEST_F(SchedulerTest, TextsAreTheSameAloneInABatchAndForAnyThreads) {
  const std::vector<SchedulerRequest> all = requests();
  std::map<int64_t, GenerateResult> results;
  Scheduler scheduler(*model_, pair_, 7);
  for (SchedulerRequest r : all) {
    auto number = std::make_shared<int64_t>(-1);
    r.on_end = [&results, number](const GenerateResult& result) { results[*number] = result; };
    *number = scheduler.add(r);
  }
  EXPECT_EQ(scheduler.n_waiting(), 20);
  scheduler.run();
  EXPECT_EQ(scheduler.n_active() + scheduler.n_waiting(), 0);
  ASSERT_EQ(results.size(), all.size());
  for (size_t k = 0; k < all.size(); ++k) {
    const GenerateResult& batched = results[static_cast<int64_t>(k)];
    const GenerateResult by_one = alone(all[k], single_);
    const GenerateResult by_two = alone(all[k], pair_);
    EXPECT_EQ(batched.ids, by_one.ids) << k;
    EXPECT_EQ(batched.text, by_one.text) << k;
    EXPECT_EQ(by_two.ids, by_one.ids) << k;
    EXPECT_EQ(batched.finish_reason, "length");
    EXPECT_EQ(static_cast<int64_t>(batched.ids.size()), all[k].generate.max_new_tokens);
  }
}

TEST_F(SchedulerTest, SequencesEnterLeaveAndAreCancelledAtAnyStep) {
  SchedulerRequest r = requests()[1];
  const GenerateResult expected = alone(r, single_);
  std::vector<std::string> reasons;
  r.on_end = [&](const GenerateResult& result) {
    reasons.push_back(result.finish_reason);
    if (result.finish_reason == "length") {
      EXPECT_EQ(result.ids, expected.ids);
    }
  };
  Scheduler scheduler(*model_, pair_, 2);
  const int64_t first = scheduler.add(r);
  for (int k = 0; k < 5; ++k) EXPECT_TRUE(scheduler.step());
  scheduler.add(r);
  const int64_t third = scheduler.add(r);  // waits
  scheduler.step();
  EXPECT_EQ(scheduler.n_waiting(), 1);
  scheduler.cancel(third);
  scheduler.cancel(first);
  scheduler.run();
  EXPECT_EQ(reasons, (std::vector<std::string>{"cancelled", "cancelled", "length"}));
  EXPECT_FALSE(scheduler.step());
}

TEST_F(SchedulerTest, ASequenceThatFailsDoesNotTakeTheOthersWithIt) {
  SchedulerRequest good = requests()[1], bad = good;
  bad.generate.prompt.push_back(1 << 20);
  const GenerateResult expected = alone(good, single_);
  int ended = 0;
  good.on_end = [&](const GenerateResult& result) {
    ++ended;
    EXPECT_EQ(result.ids, expected.ids);
  };
  bad.on_end = [&](const GenerateResult& result) {
    ++ended;
    EXPECT_EQ(result.finish_reason, "error");
    EXPECT_THROW(std::rethrow_exception(result.failure), Error);
  };
  Scheduler scheduler(*model_, pair_, 4);
  scheduler.add(bad);
  scheduler.add(good);
  scheduler.run();
  EXPECT_EQ(ended, 2);
}

// Text apart, which is kept as it comes.
TEST_F(SchedulerTest, ADecodingStepAllocatesNothing) {
  Scheduler scheduler(*model_, pair_, 4);
  for (const double temperature : {0.0, 0.8}) {
    for (const PolicyKind kind : {PolicyKind::kSepStream, PolicyKind::kSinkStream}) {
      SchedulerRequest r = requests()[8];
      r.policy.policy.kind = kind;
      r.sampling = {.temperature = temperature, .repeat_penalty = 1.1};
      r.generate.max_new_tokens = 100000;
      r.generate.keep = false;
      scheduler.add(r);
    }
  }
  for (int k = 0; k < 1500; ++k) scheduler.step();
  const int64_t before = test::allocation_count();
  for (int k = 0; k < 100; ++k) scheduler.step();
  EXPECT_EQ(test::allocation_count() - before, 0);
}

}  // namespace
}  // namespace sepllm
