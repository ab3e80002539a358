#include "engine/scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

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
    r.on_end = [&results, number](const EndStep& end) { results[*number] = end.result; };
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
    EXPECT_EQ(batched.finish_reason, FinishReason::kLength);
    EXPECT_EQ(static_cast<int64_t>(batched.ids.size()), all[k].generate.max_new_tokens);
  }
}

// Cancelled by number or by the request's own go_on: in the queue, in its prompt and while it decodes, at
// every step of its life. The others' texts do not change.
TEST_F(SchedulerTest, RequestsAreCancelledOneByOneAtAnyStep) {
  const SchedulerRequest other = requests()[1];
  const GenerateResult expected = alone(other, single_);
  SchedulerRequest r = requests()[7];  // sep, a prompt of 5 chunks
  const GenerateResult whole = alone(r, single_);
  for (const bool by_number : {true, false}) {
    std::map<std::string, int> stages;
    for (int steps = 0; steps < 30; steps += steps < 10 ? 1 : 6) {
      Scheduler scheduler(*model_, pair_, 2);
      int ended = 0;
      SchedulerRequest neighbour = other;
      neighbour.on_end = [&](const EndStep& end) {
        const GenerateResult& result = end.result;
        ++ended;
        EXPECT_EQ(result.ids, expected.ids) << steps;
      };
      scheduler.add(neighbour);
      SchedulerRequest filler = neighbour;  // occupies the second place for its first 4 steps
      filler.generate.max_new_tokens = 4;
      filler.on_end = {};
      scheduler.add(filler);
      bool wanted = true, told = false;
      SchedulerRequest doomed = r;
      doomed.generate.go_on = [&] { return wanted; };
      std::string text;
      doomed.on_text = [&](const TextStep& step) {
        EXPECT_TRUE(wanted) << "text after the end";
        text += step.text;
        return true;
      };
      doomed.on_end = [&](const EndStep& end) {
        const GenerateResult& result = end.result;
        told = true;
        EXPECT_EQ(result.finish_reason, FinishReason::kCancelled) << steps;
        EXPECT_EQ(result.ids, std::vector<int32_t>(whole.ids.begin(), whole.ids.begin() + result.new_tokens));
      };
      const int64_t number = scheduler.add(doomed);
      scheduler.add(neighbour);
      for (int k = 0; k < steps; ++k) scheduler.step();
      ++stages[scheduler.n_waiting() == 2 ? "queue" : text.empty() ? "prompt" : "decoding"];
      ASSERT_FALSE(told);
      wanted = false;
      if (by_number) scheduler.cancel(number);
      scheduler.step();
      EXPECT_TRUE(told) << "within one step";
      scheduler.run();
      EXPECT_EQ(ended, 2);
    }
    EXPECT_GE(stages["queue"], 3);
    EXPECT_GE(stages["prompt"], 3);
    EXPECT_GE(stages["decoding"], 3);
  }
}

TEST_F(SchedulerTest, CallbacksMayAddAndCancel) {
  const SchedulerRequest r = requests()[1];
  const GenerateResult expected = alone(r, single_);
  Scheduler scheduler(*model_, pair_, 2);
  int ended = 0, pieces = 0;
  int64_t victim = -1;
  std::function<void(int)> add = [&](int more) {
    SchedulerRequest next = r;
    next.on_text = [&](const TextStep&) {
      if (++pieces == 5) scheduler.cancel(victim);
      return true;
    };
    next.on_end = [&, more](const EndStep& end) {
      const GenerateResult& result = end.result;
      ++ended;
      EXPECT_EQ(result.ids, expected.ids);
      for (int k = 0; k < more; ++k) add(more - 1);
    };
    scheduler.add(next);
  };
  add(3);
  SchedulerRequest doomed = r;
  doomed.on_end = [&](const EndStep& end) {
    const GenerateResult& result = end.result;
    EXPECT_EQ(result.finish_reason, FinishReason::kCancelled);
    add(0);
    add(0);
  };
  scheduler.add(r);
  victim = scheduler.add(doomed);  // waits in the queue
  scheduler.run();
  EXPECT_EQ(ended, 1 + 3 * (1 + 2 * (1 + 1)) + 2);
}

// A conversation's session serves one request after the other: each begins with what its prompt has in common
// with what the session holds, and its text has the same bits as without.
TEST_F(SchedulerTest, ARequestReusesAHeldPrefixWithTheSameBits) {
  for (const SchedulerRequest& r : requests()) {
    if (r.generate.prompt.size() < 60) continue;
    SCOPED_TRACE(policy_name(r.policy.policy.kind));
    Scheduler scheduler(*model_, pair_, 3);
    SchedulerRequest next = r;
    next.sampling = {};
    next.session = std::make_shared<Session>(*model_, r.policy, pair_);
    next.session->keep_marks({.interval = 16});
    GenerateResult result;
    next.on_end = [&](const EndStep& end) { result = end.result; };
    int64_t reused = 0;
    for (int turn = 0; turn < 4; ++turn) {
      next.generate.n_fed = next.session->reusable(next.generate.prompt, /*same_bits=*/true);
      next.session->rewind(next.generate.n_fed);
      reused += next.generate.n_fed;
      scheduler.add(next);
      scheduler.add(requests()[2]);  // runs at the same time
      scheduler.run();
      SchedulerRequest fresh = next;
      fresh.generate.n_fed = 0;
      EXPECT_EQ(result.ids, alone(fresh, single_).ids) << turn;
      EXPECT_EQ(result.prompt_tokens, static_cast<int64_t>(next.generate.prompt.size()));
      // The marks have recorded the decoded tokens.
      const Session& s = *next.session;
      ASSERT_EQ(s.marks().end(), s.cache().length());
      ASSERT_EQ(s.cache().length(),
                static_cast<int64_t>(next.generate.prompt.size() + result.ids.size()) - 1);
      EXPECT_LT(s.marks().end() - s.marks().positions().back(), 16 + 32);
      // The answer, then something new; the last time another text from the middle on.
      std::vector<int32_t>& prompt = next.generate.prompt;
      prompt.insert(prompt.end(), result.ids.begin(), result.ids.end());
      for (int32_t k = 0; k < 23; ++k) prompt.push_back((k * 7 + turn) % 256);
      if (turn == 2) prompt[prompt.size() / 2] ^= 1;
      // As a guess, generated tokens too: the same tokens follow, with logits that differ by rounding.
      const int64_t longest = s.reusable(prompt, /*same_bits=*/false);
      if (turn < 2) {
        EXPECT_EQ(longest, s.cache().length());
      }
    }
    EXPECT_GT(reused, 100);
  }
}

// Short prompts are fed in one pass, with the tokens of those that decode, and their texts and scores are
// what they are by themselves.
TEST_F(SchedulerTest, ShortPromptsShareAPass) {
  for (const PolicyKind kind : {PolicyKind::kFull, PolicyKind::kSepStream}) {
    std::vector<std::vector<TokenScore>> scores[2];
    for (const bool together : {true, false}) {
      Scheduler scheduler(*model_, pair_, 8);
      int ended = 0;
      scores[together].resize(5);
      for (size_t k = 0; k < 5; ++k) {
        SchedulerRequest r = requests()[1];
        r.policy.policy.kind = kind;
        r.generate.prompt.resize(4 + k);  // 30 tokens together
        r.generate.prompt[0] = static_cast<int32_t>(k);
        r.generate.max_new_tokens = k < 3 ? 1 : 8;
        r.n_top = 2;
        r.score_prompt = k % 2 == 0;
        r.on_prompt = [&, k](const PromptStep& step) {
          scores[together][k].insert(scores[together][k].end(), step.scores.begin(), step.scores.end());
        };
        r.on_text = [&, k](const TextStep& step) {
          scores[together][k].insert(scores[together][k].end(), step.scores.begin(), step.scores.end());
          return true;
        };
        const GenerateResult expected = alone(r, single_);
        r.on_end = [&, expected](const EndStep& end) {
          ++ended;
          EXPECT_EQ(end.result.ids, expected.ids);
        };
        scheduler.add(r);
        if (!together) scheduler.run();
      }
      if (together) {
        scheduler.step();
        EXPECT_EQ(ended, 3) << "all prompts in one step";
        scheduler.run();
      }
      EXPECT_EQ(ended, 5);
    }
    for (size_t k = 0; k < 5; ++k) {
      const auto &a = scores[0][k], &b = scores[1][k];
      ASSERT_EQ(a.size(), b.size());
      EXPECT_EQ(a.size(), (k < 3 ? 1 : 8) + (k % 2 == 0 ? 3 + k : 0));
      for (size_t t = 0; t < a.size(); ++t) {
        EXPECT_EQ(a[t].id, b[t].id);
        EXPECT_EQ(a[t].logprob, b[t].logprob) << "the same bits";
        EXPECT_EQ(a[t].top, b[t].top);
      }
    }
  }
}

TEST_F(SchedulerTest, ASequenceThatFailsDoesNotTakeTheOthersWithIt) {
  SchedulerRequest good = requests()[1], bad = good;
  bad.generate.prompt.push_back(1 << 20);
  const GenerateResult expected = alone(good, single_);
  int ended = 0;
  good.on_end = [&](const EndStep& end) {
    const GenerateResult& result = end.result;
    ++ended;
    EXPECT_EQ(result.ids, expected.ids);
  };
  bad.on_end = [&](const EndStep& end) {
    const GenerateResult& result = end.result;
    ++ended;
    EXPECT_EQ(result.finish_reason, FinishReason::kError);
    EXPECT_THROW(std::rethrow_exception(result.failure), Error);
  };
  Scheduler scheduler(*model_, pair_, 4);
  scheduler.add(bad);
  scheduler.add(good);
  scheduler.run();
  EXPECT_EQ(ended, 2);
}

// Whatever buffer cannot be had, in the prompt or while decoding: one sequence ends, with an error that says
// so, and the others' texts are what they are. (The last one may be of the prompt's or the pass's scratch
// memory, which is warm here.)
TEST_F(SchedulerTest, OneThatIsOutOfMemoryEndsAlone) {
  if (!test::NoMemory::works()) GTEST_SKIP() << "the sanitizers have an allocator of their own";
  const std::vector<SchedulerRequest> all = requests();
  const std::vector<SchedulerRequest> few = {all[1], all[5], all[9], all[2]};
  const auto bits = [](const Session& session) {
    std::string out;
    StringWriter writer(&out);
    session.cache().save(writer);
    return out;
  };
  std::vector<GenerateResult> expected;
  std::vector<std::string> expected_bits;
  for (const SchedulerRequest& r : few) {
    Session session(*model_, r.policy, pair_);
    Sampler sampler(r.sampling, model_->config().vocab_size);
    expected.push_back(generate(session, sampler, r.generate, {}));
    expected_bits.push_back(bits(session));
  }
  std::vector<int> failed(few.size());
  int64_t runs = 0;
  for (int64_t after = 0;; after += 3, ++runs) {
    Scheduler scheduler(*model_, pair_, 4);
    std::vector<GenerateResult> results(few.size());
    std::vector<std::shared_ptr<Session>> sessions;
    for (size_t k = 0; k < few.size(); ++k) {
      SchedulerRequest r = few[k];
      sessions.push_back(r.session = std::make_shared<Session>(*model_, r.policy, pair_));
      r.on_end = [&results, k](const EndStep& end) { results[k] = end.result; };
      scheduler.add(r);
    }
    const test::NoMemory none(after, 1);
    scheduler.run();
    int n_failed = 0;
    for (size_t k = 0; k < few.size(); ++k) {
      if (results[k].finish_reason == FinishReason::kError) {
        ++n_failed;
        ++failed[k];
        EXPECT_THROW(std::rethrow_exception(results[k].failure), Error);
        EXPECT_LE(results[k].ids.size(), expected[k].ids.size());
        EXPECT_TRUE(std::equal(results[k].ids.begin(), results[k].ids.end(), expected[k].ids.begin()));
      } else {
        EXPECT_EQ(results[k].ids, expected[k].ids) << "request " << k << " after " << after;
        EXPECT_TRUE(bits(*sessions[k]) == expected_bits[k]) << "request " << k << " after " << after;
      }
    }
    ASSERT_EQ(n_failed, none.n_failed()) << after;
    if (none.n_failed() == 0) break;
  }
  EXPECT_GT(runs, 20);
  for (const int n : failed) EXPECT_GT(n, 0);
}

// The text is not counted, because it is kept as it comes.
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
