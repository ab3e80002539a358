#include "engine/session.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/rng.h"
#include "engine/generator.h"
#include "engine/scorer.h"
#include "model/random_model.h"
#include "tests/support/allocations.h"
#include "tests/support/support.h"

namespace sepllm {
namespace {

// A random model with a byte tokenizer, and the context to run it.
class SessionTest : public ::testing::Test {
 protected:
  SessionTest() {
    write_random_model(
        folder_.path(),
        {.variant = "llama", .seed = 3, .hidden_size = 32, .n_layers = 2, .max_positions = 200});
    model_ = std::make_unique<Model>(load_model(folder_.path(), ""));
    const Rng rng(1);
    for (uint64_t k = 0; k < 150; ++k) ids_.push_back(static_cast<int32_t>(rng.bits(k) % 256));
  }

  PolicySettings settings(PolicyKind kind, int64_t chunk) const {
    PolicySettings out;
    out.policy.kind = kind;
    out.policy.window = 12;
    out.policy.seps = 8;
    out.policy.capacity = 40;
    if (out.policy.streaming()) out.policy.positions = PositionMode::kCache;
    out.prefill_chunk = chunk;
    return out;
  }

  test::TemporaryFolder folder_;
  std::unique_ptr<Model> model_;
  std::vector<int32_t> ids_;
  ThreadPool pool_{2};
  Arena arena_;
  Context ctx_{pool_, arena_};
};

TEST_F(SessionTest, LogitsDoNotDependOnTheChunks) {
  for (const PolicyKind kind :
       {PolicyKind::kFull, PolicyKind::kSep, PolicyKind::kSepStream, PolicyKind::kSinkStream}) {
    Session whole(*model_, settings(kind, 1000), ctx_), small(*model_, settings(kind, 7), ctx_);
    const std::span<const float> a = whole.advance(ids_);
    const std::vector<float> kept(a.begin(), a.end());
    const std::span<const float> b = small.advance(ids_);
    for (size_t k = 0; k < kept.size(); ++k) ASSERT_NEAR(kept[k], b[k], 1e-4) << policy_name(kind);
    EXPECT_EQ(whole.cache().length(), 150);
  }
}

TEST_F(SessionTest, FeedingEndsWhenAsked) {
  Session session(*model_, settings(PolicyKind::kFull, 10), ctx_);
  int chunks = 0;
  session.feed(ids_, [&](int64_t, const Matrix&) { return ++chunks < 3; });
  EXPECT_EQ(session.cache().length(), 30);
}

TEST_F(SessionTest, ScoreIsTheMeanNllOfTheLogits) {
  Session session(*model_, settings(PolicyKind::kSep, 16), ctx_);
  std::vector<double> nll;
  const ScoreResult result =
      score(session, ids_, /*has_bos=*/false, [&](std::span<const double> part, const ScoreResult&) {
        nll.insert(nll.end(), part.begin(), part.end());
        return true;
      });
  EXPECT_EQ(result.tokens, 150);
  EXPECT_EQ(result.predicted, 149);
  ASSERT_EQ(nll.size(), 149U);
  // Token by token, by the definition.
  Session steps(*model_, settings(PolicyKind::kSep, 16), ctx_);
  double sum = 0.0;
  for (size_t t = 0; t + 1 < ids_.size(); ++t) {
    const std::span<const float> logits = steps.advance({&ids_[t], 1});
    double total = 0.0;
    for (const float x : logits) total += std::exp(static_cast<double>(x));
    const double expected = std::log(total) - static_cast<double>(logits[static_cast<size_t>(ids_[t + 1])]);
    ASSERT_NEAR(nll[t], expected, 1e-4);
    sum += expected;
  }
  EXPECT_NEAR(result.nll_mean(), sum / 149.0, 1e-5);
  EXPECT_NEAR(result.perplexity(), std::exp(sum / 149.0), 1e-2);
}

TEST_F(SessionTest, ScoreCountsABosAsNoTextAndEndsEarly) {
  Session session(*model_, settings(PolicyKind::kFull, 10), ctx_);
  const ScoreResult whole = score(session, ids_, /*has_bos=*/true, {});
  EXPECT_EQ(whole.tokens, 149);
  EXPECT_EQ(whole.predicted, 149);
  Session other(*model_, settings(PolicyKind::kFull, 10), ctx_);
  EXPECT_EQ(score(other, ids_, false, [](auto, const ScoreResult& r) { return r.tokens < 20; }).tokens, 20);
}

// Sampling is not included. (A separator that leaves the window may still make the compact part grow, by
// half.)
TEST_F(SessionTest, ADecodeStepAllocatesNothing) {
  const int32_t letter = 'a';
  for (const PolicyKind kind : {PolicyKind::kFull, PolicyKind::kSep, PolicyKind::kSepStream,
                                PolicyKind::kSink, PolicyKind::kSinkStream}) {
    Session session(*model_, settings(kind, 64), ctx_);
    session.cache().reserve(400);
    session.advance(ids_);
    for (int k = 0; k < 100; ++k) session.advance({&letter, 1});
    const int64_t before = test::allocation_count();
    const int64_t arena = arena_.reserved_bytes();
    const int64_t cache = session.cache().stats().reserved_bytes;
    for (int k = 0; k < 100; ++k) session.advance({&letter, 1});
    EXPECT_EQ(test::allocation_count() - before, 0) << policy_name(kind);
    EXPECT_EQ(arena_.reserved_bytes(), arena) << policy_name(kind);
    EXPECT_EQ(session.cache().stats().reserved_bytes, cache) << policy_name(kind);
  }
}

TEST_F(SessionTest, IdsOutsideTheVocabularyAreRefusedBeforeTheCacheChanges) {
  Session session(*model_, settings(PolicyKind::kFull, 100), ctx_);
  const std::vector<int32_t> bad = {1, 2, 100000};
  EXPECT_THROW(session.advance(bad), Error);
  EXPECT_THROW(session.advance(std::vector<int32_t>{-1}), Error);
  EXPECT_EQ(session.cache().length(), 0);
  EXPECT_NO_THROW(session.advance(std::vector<int32_t>{1}));
}

TEST_F(SessionTest, GeneratedTextIsTheDecodedIdsAndStreamsWhole) {
  Session session(*model_, settings(PolicyKind::kSep, 64), ctx_);
  Sampler sampler({.temperature = 1.0, .seed = 5}, model_->config().vocab_size);
  GenerateRequest request{.prompt = model_->encode("Once, ", "auto"), .max_new_tokens = 60};
  std::string streamed;
  const GenerateResult result = generate(session, sampler, request, [&](const std::string& text) {
    streamed += text;
    return true;
  });
  EXPECT_EQ(result.ids.size(), 60U);
  EXPECT_EQ(result.finish_reason, FinishReason::kLength);
  EXPECT_EQ(streamed, result.text);
  EXPECT_EQ(session.cache().length(), static_cast<int64_t>(request.prompt.size()) + 59);
}

TEST_F(SessionTest, GenerationStopsAtStringsIdsAndOnCancel) {
  // A greedy continuation, to know what comes.
  GenerateRequest request{.prompt = {72, 101}, .max_new_tokens = 20};
  const auto run = [&](const GenerateRequest& r, const std::function<bool(const std::string&)>& on_text) {
    Session session(*model_, settings(PolicyKind::kFull, 64), ctx_);
    Sampler sampler({.temperature = 1.0, .seed = 11}, model_->config().vocab_size);
    return generate(session, sampler, r, on_text);
  };
  const GenerateResult free = run(request, {});
  ASSERT_EQ(free.ids.size(), 20U);

  request.stop_ids = {free.ids[4]};
  const GenerateResult by_id = run(request, {});
  EXPECT_EQ(by_id.finish_reason, FinishReason::kStop);
  EXPECT_LE(by_id.ids.size(), 4U);
  request.ignore_eos = true;
  EXPECT_EQ(run(request, {}).ids.size(), 20U);

  request = {.prompt = {72, 101}, .max_new_tokens = 20, .stop_strings = {free.text.substr(3, 2)}};
  std::string streamed;
  const GenerateResult by_string = run(request, [&](const std::string& text) {
    streamed += text;
    return true;
  });
  EXPECT_EQ(by_string.finish_reason, FinishReason::kStop);
  EXPECT_EQ(by_string.text, free.text.substr(0, free.text.find(free.text.substr(3, 2))));
  EXPECT_EQ(streamed, by_string.text);

  request.stop_strings.clear();
  EXPECT_EQ(run(request, [](const std::string&) { return false; }).finish_reason, FinishReason::kCancelled);
}

// The last token begins a character that is never completed: the replacement that is shown for it completes
// the stop string.
TEST_F(SessionTest, AStopStringMayEndInABrokenCharacter) {
  const auto run = [&](int64_t n, const std::vector<std::string>& stops) {
    Session session(*model_, settings(PolicyKind::kFull, 64), ctx_);
    Sampler sampler({.temperature = 1.0, .seed = 11}, model_->config().vocab_size);
    return generate(session, sampler, {.prompt = {72}, .max_new_tokens = n, .stop_strings = stops}, {});
  };
  const GenerateResult free = run(200, {});
  for (size_t k = 1; k < free.ids.size(); ++k) {
    const bool leads = free.ids[k] >= 0xC2 && free.ids[k] <= 0xF4;
    if (!leads || free.ids[k - 1] >= 0x80) continue;
    const std::string text = run(static_cast<int64_t>(k + 1), {}).text;
    const std::string stop = text.substr(text.size() - 4);  // one byte and U+FFFD
    ASSERT_TRUE(stop.ends_with("\xEF\xBF\xBD"));
    if (text.find(stop) + 4 != text.size()) continue;
    const GenerateResult stopped = run(static_cast<int64_t>(k + 1), {stop});
    EXPECT_EQ(stopped.text, text.substr(0, text.size() - 4));
    EXPECT_EQ(stopped.finish_reason, FinishReason::kStop);
    return;
  }
  FAIL() << "no such token was drawn";
}

TEST_F(SessionTest, NothingIsGeneratedForZeroTokens) {
  Session session(*model_, settings(PolicyKind::kFull, 64), ctx_);
  Sampler sampler({}, model_->config().vocab_size);
  const GenerateResult result = generate(session, sampler, {.prompt = {1}, .max_new_tokens = 0}, {});
  EXPECT_TRUE(result.ids.empty());
  EXPECT_EQ(result.finish_reason, FinishReason::kLength);
}

}  // namespace
}  // namespace sepllm
