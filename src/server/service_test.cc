#include "server/service.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/rng.h"
#include "server/service_test_support.h"

namespace sepllm::server {
namespace {

using test::Answer;
using test::ServiceTest;

TEST_F(ServiceTest, EightRequestsTogetherAreTheSameAsEachAlone) {
  open({.parallel = 8});
  for (const PolicyKind kind : kinds()) {
    SCOPED_TRACE(policy_name(kind));
    std::vector<ServiceRequest> requests;
    std::vector<std::shared_ptr<Answer>> answers;
    for (int64_t k = 0; k < 8; ++k) {
      requests.push_back(request(kind, tokens(1 + 31 * k, static_cast<uint64_t>(k)), 12 + k));
      if (k % 3 == 2) requests.back().sampling = {.temperature = 1.0, .seed = k};
      answers.push_back(submit(requests.back()));
    }
    for (size_t k = 0; k < requests.size(); ++k) {
      wait(answers[k]);
      const GenerateResult expected = alone(requests[k]);
      EXPECT_EQ(answers[k]->results[0].ids, expected.ids) << k;
      EXPECT_EQ(answers[k]->texts[0], expected.text) << k;
      EXPECT_EQ(answers[k]->results[0].finish_reason, FinishReason::kLength);
    }
  }
  ASSERT_TRUE(service_->wait_idle(10));
  const ServiceState state = service_->state();
  EXPECT_EQ(state.requests, 48);
  EXPECT_EQ(state.generated_tokens, 6 * (8 * 12 + 28));
  EXPECT_TRUE(state.active.empty());
  EXPECT_EQ(state.kv_reserved, 0);
  EXPECT_GT(state.decode_rows, state.decode_steps);
}

TEST_F(ServiceTest, ChoicesShareThePromptAndDifferBySeed) {
  open({.parallel = 2});
  for (const PolicyKind kind : {PolicyKind::kFull, PolicyKind::kSepStream}) {
    ServiceRequest r = request(kind, tokens(100, 7), 15);
    r.n_choices = 3;  // more than run in parallel otherwise
    r.sampling = {.temperature = 1.0, .seed = 5};
    const auto answer = run(r);
    EXPECT_EQ(answer->fed.back(), 100);
    for (int64_t c = 0; c < 3; ++c)
      EXPECT_EQ(answer->results[static_cast<size_t>(c)].ids, alone(r, c).ids) << c;
    EXPECT_NE(answer->results[0].ids, answer->results[1].ids);
    r.generate.max_new_tokens = 0;
    const auto none = run(r);
    EXPECT_EQ(none->n_ended, 3);
    EXPECT_EQ(none->results[2].new_tokens, 0);
  }
}

// Scores of the prompt and of sampled tokens against the logits of another session, token by token.
TEST_F(ServiceTest, ScoresAreThoseOfTheLogits) {
  open();
  for (const PolicyKind kind : kinds()) {
    SCOPED_TRACE(policy_name(kind));
    ServiceRequest r = request(kind, tokens(90, 11), 10);
    r.n_top = 3;
    r.score_prompt = true;
    const auto answer = run(r);
    std::vector<TokenScore> scores = answer->prompt_scores;
    ASSERT_EQ(scores.size(), 89U);
    scores.insert(scores.end(), answer->scores[0].begin(), answer->scores[0].end());
    ASSERT_EQ(scores.size(), 99U);
    std::vector<int32_t> all = r.generate.prompt;
    all.insert(all.end(), answer->results[0].ids.begin(), answer->results[0].ids.end());
    Session session(*model_, r.policy, other_ctx_);
    for (size_t k = 1; k < all.size(); ++k) {
      const std::span<const float> logits = session.advance(std::span(all).subspan(k - 1, 1));
      const TokenScore& s = scores[k - 1];
      double sum = 0;
      for (const float x : logits) sum += std::exp(static_cast<double>(x));
      const auto expected = [&](int32_t id) { return logits[static_cast<size_t>(id)] - std::log(sum); };
      EXPECT_EQ(s.id, all[k]);
      EXPECT_NEAR(s.logprob, expected(s.id), 1e-4) << k;
      ASSERT_EQ(s.top.size(), 3U);
      const float most = *std::max_element(logits.begin(), logits.end());
      EXPECT_NEAR(s.top[0].second, most - std::log(sum), 1e-4);
      for (size_t t = 0; t < 3; ++t) {
        EXPECT_NEAR(s.top[t].second, expected(s.top[t].first), 1e-4);
        if (t > 0) {
          EXPECT_GE(s.top[t - 1].second, s.top[t].second);
        }
        if (s.top[t].first == s.id) {
          EXPECT_EQ(s.top[t].second, s.logprob);
        }
      }
      if (k >= 90) {
        EXPECT_EQ(s.top[0].first, s.id) << "greedy";
      }
    }
  }
}

// Programs that score texts ask for one token and count on its score.
TEST_F(ServiceTest, TheTokenThatEndsATextHasAScoreToo) {
  open();
  ServiceRequest r = request(PolicyKind::kFull, tokens(20, 3), 8);
  r.n_top = 1;
  const auto whole = run(r);
  r.generate.stop_ids = {whole->results[0].ids[2]};
  r.generate.ignore_eos = false;
  const auto ended = run(r);
  ASSERT_EQ(ended->results[0].finish_reason, FinishReason::kStop);
  const size_t n = static_cast<size_t>(ended->results[0].new_tokens) + 1;
  ASSERT_EQ(ended->scores[0].size(), n);
  for (size_t k = 0; k < n; ++k) {
    EXPECT_EQ(ended->scores[0][k].id, whole->results[0].ids[k]);
    EXPECT_EQ(ended->scores[0][k].logprob, whole->scores[0][k].logprob);
  }
}

TEST_F(ServiceTest, ARequestIsCancelledAtAnyStageAndNoOtherIs) {
  open({.parallel = 2, .keep_prefixes = false});
  const ServiceRequest good = request(PolicyKind::kSep, tokens(60, 1), 200);
  const GenerateResult expected = alone(good);
  for (const std::string stage : {"queue", "prompt", "decoding"}) {
    SCOPED_TRACE(stage);
    const auto neighbour = submit(good);
    std::shared_ptr<Answer> other;
    if (stage == "queue") other = submit(good);
    ServiceRequest doomed = request(PolicyKind::kFull, tokens(stage == "prompt" ? 3000 : 40, 2), 900);
    doomed.cancelled = std::make_shared<std::atomic<bool>>(false);
    std::atomic<bool> decodes = false;
    doomed.on_text = [&](const TextEvent&) { decodes = true; };
    const auto answer = submit(doomed);
    if (stage == "prompt") {
      wait_until([&] {
        const ServiceState s = service_->state();
        return std::any_of(s.active.begin(), s.active.end(), [](const ActiveRequest& a) {
          return a.prompt_tokens == 3000 && a.in_prompt && a.fed > 0;
        });
      });
    } else if (stage == "decoding") {
      wait_until([&] { return decodes.load(); });
    }
    doomed.cancelled->store(true);
    wait(answer);
    EXPECT_EQ(answer->results[0].finish_reason, FinishReason::kCancelled);
    if (stage != "decoding") {
      EXPECT_EQ(answer->results[0].new_tokens, 0);
      EXPECT_TRUE(stage == "prompt" || answer->fed.empty());
      EXPECT_TRUE(stage == "queue" || answer->fed.back() < 3000);
    }
    EXPECT_LT(answer->results[0].new_tokens, 900);
    for (const auto& a : {neighbour, other}) {
      if (a == nullptr) continue;
      wait(a);
      EXPECT_EQ(a->results[0].ids, expected.ids);
    }
  }
}

TEST_F(ServiceTest, AFullQueueAndADrainingServiceTakeNothing) {
  open({.parallel = 1, .max_queue = 2});
  std::vector<std::shared_ptr<Answer>> answers;
  int n_refused = 0;
  for (int k = 0; k < 8; ++k) {
    const auto answer = submit(request(PolicyKind::kFull, tokens(40, 3), 60));
    answer ? answers.push_back(answer) : void(++n_refused);
  }
  EXPECT_GE(n_refused, 1);
  EXPECT_GE(answers.size(), 2U);
  service_->stop_admitting();
  EXPECT_EQ(submit(request(PolicyKind::kFull, tokens(4, 3), 1)), nullptr);
  ASSERT_TRUE(service_->wait_idle(60));
  for (const auto& answer : answers) EXPECT_EQ(answer->results[0].new_tokens, 60);
  EXPECT_EQ(service_->state().rejected, n_refused + 1);
}

TEST_F(ServiceTest, AllIsCancelledAtTheEnd) {
  open({.parallel = 2});
  std::vector<std::shared_ptr<Answer>> answers;
  answers.reserve(10);
  for (int k = 0; k < 5; ++k) answers.push_back(submit(request(PolicyKind::kSink, tokens(50, 3), 100000)));
  service_->cancel_all();
  ASSERT_TRUE(service_->wait_idle(60));
  for (int k = 0; k < 5; ++k) answers.push_back(submit(request(PolicyKind::kSink, tokens(50, 3), 100000)));
  service_.reset();
  for (const auto& answer : answers) {
    EXPECT_EQ(answer->n_ended, 1);
    EXPECT_EQ(answer->results[0].finish_reason, FinishReason::kCancelled);
  }
}

TEST_F(ServiceTest, WhatCanNeverRunIsRefused) {
  open({.kv_memory = int64_t{1} << 20});
  const auto code_of = [&](const ServiceRequest& r) -> std::optional<ErrorCode> {
    try {
      service_->submit(r);
    } catch (const Error& e) {
      return e.code();
    }
    return std::nullopt;
  };
  ServiceRequest r = request(PolicyKind::kFull, tokens(10, 1), 1 << 20);
  EXPECT_EQ(code_of(r), ErrorCode::kOutOfRange);
  r.policy = policy(PolicyKind::kSepStream);  // any length fits
  r.cancelled = std::make_shared<std::atomic<bool>>(true);
  EXPECT_EQ(code_of(r), std::nullopt);
  r.n_choices = 1 << 20;
  EXPECT_EQ(code_of(r), ErrorCode::kOutOfRange);
  r = request(PolicyKind::kFull, {}, 5);
  EXPECT_EQ(code_of(r), ErrorCode::kInvalidArgument);
  r = request(PolicyKind::kFull, {1, -1}, 5);
  EXPECT_EQ(code_of(r), ErrorCode::kInvalidArgument);
  r = request(PolicyKind::kFull, {1, 1 << 20}, 5);
  EXPECT_EQ(code_of(r), ErrorCode::kInvalidArgument);
  r = request(PolicyKind::kSepStream, {1}, 5);
  r.policy.policy.capacity = 2;
  EXPECT_EQ(code_of(r), ErrorCode::kInvalidArgument);
}

// Requests of all policies and lengths where memory is for two or three of them. None fails, and what their
// caches take together never passes the limit.
TEST_F(ServiceTest, NoAdmittedRequestRunsOutOfMemory) {
  const PolicySettings full = policy(PolicyKind::kFull);
  open({.parallel = 8});
  const int64_t limit = 2 * service_->kv_bytes_at_most(full, 400);
  open({.parallel = 8, .kv_memory = limit});
  std::vector<ServiceRequest> requests;
  std::vector<std::shared_ptr<Answer>> answers;
  std::atomic<int64_t> most = 0;
  const Rng rng(5);
  for (uint64_t k = 0; k < 40; ++k) {
    const PolicyKind kind = kinds()[k % kinds().size()];
    const auto length = static_cast<int64_t>(1 + rng.bits(k) % 300);
    requests.push_back(
        request(kind, tokens(length, k % 7), 1 + static_cast<int64_t>(rng.bits(100 + k) % 60)));
    requests.back().n_choices = k % 5 == 0 ? 2 : 1;
    requests.back().on_end = [&](const EndEvent& e) {
      most = std::max(most.load(), e.session->cache().stats().reserved_bytes);
      const ServiceState s = service_->state();
      EXPECT_LE(s.kv_reserved + s.kv_prefixes, limit);
    };
    answers.push_back(submit(requests.back()));
  }
  for (size_t k = 0; k < answers.size(); ++k) {
    wait(answers[k]);
    for (const GenerateResult& result : answers[k]->results)
      EXPECT_EQ(result.finish_reason, FinishReason::kLength) << k;
  }
  EXPECT_GT(most, 0);
}

}  // namespace
}  // namespace sepllm::server
