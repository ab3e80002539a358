// What requests continue of the caches that others have left behind.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "server/service_test_support.h"

namespace sepllm::server {
namespace {

using test::Answer;
using test::ServiceTest;

std::vector<int32_t> joined(std::vector<int32_t> a, const std::vector<int32_t>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// Chunks of the prompt are reused as a whole, and the text has the bits that it has without.
TEST_F(ServiceTest, APrefixOfWholeChunksIsReusedWithTheSameBits) {
  open();
  for (const PolicyKind kind : kinds()) {
    SCOPED_TRACE(policy_name(kind));
    const std::vector<int32_t> system = tokens(200, 17);
    int64_t cached = 0;
    for (uint64_t user = 0; user < 4; ++user) {
      // Other users, and then the first one again, who says more.
      const ServiceRequest r = request(kind, joined(system, tokens(30 + 40 * (user % 2), user % 3)), 20);
      const auto answer = run(r);
      EXPECT_EQ(answer->results[0].ids, alone(r).ids) << user;
      cached = answer->cached;
      EXPECT_EQ(answer->fed.back(), std::ssize(r.generate.prompt));
      if (user == 0) {
        EXPECT_EQ(cached, 0);
      }
    }
    // By then there is a mark near the place where they part. (A chunk has at most 32 tokens.)
    EXPECT_GE(cached, 160);
    EXPECT_LE(cached, 230);
  }
}

// A prompt that is sent again is not fed again, whatever its length, and its text has the same bits: also
// when it was not the last one, while it still runs, and with other numbers of new tokens and choices.
TEST_F(ServiceTest, APromptThatIsSentAgainIsNotFedAgain) {
  for (const PolicyKind kind : kinds()) {
    SCOPED_TRACE(policy_name(kind));
    open();
    for (const int64_t length : {9, 31, 32, 100, 333}) {
      SCOPED_TRACE(length);
      const ServiceRequest r = request(kind, tokens(length, 70 + static_cast<uint64_t>(length)), 20);
      const std::vector<int32_t> expected = alone(r).ids;
      EXPECT_EQ(run(r)->results[0].ids, expected);
      ServiceRequest again = r;
      again.n_choices = 2;
      again.n_top = 1;
      const auto answer = run(again);
      EXPECT_EQ(answer->cached, length);
      EXPECT_EQ(answer->fed, std::vector<int64_t>{length});
      EXPECT_EQ(answer->results[0].ids, expected);
      EXPECT_EQ(answer->results[1].ids, expected) << "greedy";
      EXPECT_EQ(answer->scores[0].size(), 20U);
      ServiceRequest none = r;
      none.generate.max_new_tokens = 0;
      EXPECT_EQ(run(none)->cached, length);
      EXPECT_EQ(run(r)->results[0].ids, expected);
    }
    // While it runs.
    ServiceRequest r = request(kind, tokens(80, 7), 60);
    const ServiceRequest same = r;
    std::shared_ptr<Answer> second;
    r.on_text = [&](const TextEvent&) {
      if (!second) second = submit(same);
    };
    const auto first = submit(r);
    wait(first);
    wait(second);
    EXPECT_EQ(second->cached, 80);
    EXPECT_EQ(second->results[0].ids, first->results[0].ids);
  }
}

// A prompt that was scored may have been cut into other chunks: a text does not begin with what it left.
TEST_F(ServiceTest, AScoredPromptIsFedForAText) {
  open();
  ServiceRequest scored = request(PolicyKind::kSepStream, tokens(20, 5), 1);
  scored.score_prompt = true;
  run(scored);
  const ServiceRequest text = request(PolicyKind::kSepStream, tokens(20, 5), 8);
  EXPECT_EQ(run(text)->cached, 0);
  EXPECT_EQ(run(text)->cached, 20);
  EXPECT_EQ(run(text)->results[0].ids, alone(text).ids);
}

// The second prompt that begins like an older one shares what was said in common, up to a mark at the end of
// a chunk, although nobody knew where they would part.
TEST_F(ServiceTest, TheFirstPromptThatBranchesOffFindsAMark) {
  for (const PolicyKind kind : kinds()) {
    SCOPED_TRACE(policy_name(kind));
    open();
    run(request(kind, joined(tokens(620, 1), tokens(300, 2)), 40));
    const ServiceRequest other = request(kind, joined(tokens(620, 1), tokens(300, 3)), 40);
    const auto answer = run(other);
    EXPECT_GE(answer->cached, 512);
    EXPECT_LE(answer->cached, 620);
    EXPECT_EQ(answer->results[0].ids, alone(other).ids);
  }
}

// A conversation, of which each prompt is all that was said: nothing is fed again but the new turn.
TEST_F(ServiceTest, AConversationOf20TurnsFeedsOnlyWhatIsNew) {
  for (const PolicyKind kind : kinds()) {
    SCOPED_TRACE(policy_name(kind));
    open();
    std::vector<int32_t> said;
    int64_t held_before = 0;
    for (uint64_t turn = 0; turn < 20; ++turn) {
      const std::vector<int32_t> question = tokens(25, 100 + turn);
      const int64_t n_before = std::ssize(said);
      const ServiceRequest r = request(kind, joined(said, question), 15);
      int64_t held = 0;
      ServiceRequest copy = r;
      copy.on_end = [&](const EndEvent& e) { held = e.session->cache().held_bytes(); };
      const auto answer = run(copy);
      // (The last token of an answer has not been fed.)
      EXPECT_EQ(answer->cached, turn == 0 ? 0 : n_before - 1) << turn;
      said = joined(r.generate.prompt, answer->results[0].ids);
      if (turn >= 10 && policy(kind).policy.streaming()) {
        EXPECT_LE(held, 41 * 2 * service_->kv_bytes_at_most(r.policy, 1)) << "bounded";
      }
      held_before = held;
      // The next token has the logits that it would have without the store, but for the order of sums.
      if (turn % 6 != 5) continue;
      Session fresh(*model_, r.policy, other_ctx_);
      const std::span<const float> logits = fresh.advance(r.generate.prompt);
      const auto first = static_cast<size_t>(answer->results[0].ids[0]);
      EXPECT_NEAR(logits[first], *std::max_element(logits.begin(), logits.end()), 1e-3);
    }
    EXPECT_GT(held_before, 0);
    ASSERT_TRUE(service_->wait_idle(10));
    EXPECT_EQ(service_->state().n_prefixes, 1) << "one session walked along";
  }
}

// An answer is replaced, or another conversation begins like an older one: the older one stays.
TEST_F(ServiceTest, AnOlderConversationStaysWhenAnotherBranchesOff) {
  open();
  for (const PolicyKind kind : {PolicyKind::kFull, PolicyKind::kSepStream}) {
    SCOPED_TRACE(policy_name(kind));
    const ServiceRequest first = request(kind, tokens(300, 3), 30);
    const auto answer = run(first);
    std::vector<int32_t> said = joined(first.generate.prompt, answer->results[0].ids);
    const ServiceRequest branch = request(kind, joined(tokens(150, 3), tokens(50, 4)), 30);
    const auto other = run(branch);
    EXPECT_EQ(other->results[0].ids, alone(branch).ids);
    const auto next = run(request(kind, joined(said, tokens(20, 5)), 5));
    EXPECT_EQ(next->cached, 329);
    ServiceRequest again = request(kind, joined(tokens(150, 3), tokens(50, 4)), 30);
    again.reuse_prefix = false;
    const auto without = run(again);
    EXPECT_EQ(without->cached, 0);
    EXPECT_EQ(without->results[0].ids, other->results[0].ids);
  }
}

// Several continuations of one prefix are scored: from the third on (from the second for a cache that drops
// nothing) only the continuation is fed, and the scores are those of a service that reuses nothing.
TEST_F(ServiceTest, ScoresOfAReusedPrefixAreAnswered) {
  for (const PolicyKind kind : kinds()) {
    SCOPED_TRACE(policy_name(kind));
    const std::vector<int32_t> context = tokens(150, 21);
    std::vector<std::shared_ptr<Answer>> plain, reused;
    std::vector<ServiceRequest> requests;
    for (uint64_t k = 0; k < 5; ++k) {
      requests.push_back(request(kind, joined(context, tokens(10 + static_cast<int64_t>(k), 50 + k)), 1));
      requests.back().score_prompt = true;
      requests.back().n_top = k == 4 ? 1 : 2;
    }
    open({.keep_prefixes = false});
    for (const ServiceRequest& r : requests) plain.push_back(run(r));
    open();
    for (const ServiceRequest& r : requests) reused.push_back(run(r));
    for (size_t k = 0; k < 5; ++k) {
      SCOPED_TRACE(k);
      EXPECT_EQ(plain[k]->cached, 0);
      const bool begins_there = kind == PolicyKind::kFull ? k >= 1 : k >= 2;
      if (begins_there) {
        EXPECT_EQ(reused[k]->cached, 149);
      }
      const std::vector<TokenScore>&a = plain[k]->prompt_scores, &b = reused[k]->prompt_scores;
      ASSERT_EQ(a.size(), requests[k].generate.prompt.size() - 1);
      ASSERT_EQ(b.size(), a.size());
      for (size_t t = 0; t < a.size(); ++t) {
        EXPECT_EQ(b[t].id, a[t].id);
        EXPECT_EQ(b[t].id, requests[k].generate.prompt[t + 1]);
        EXPECT_NEAR(b[t].logprob, a[t].logprob, 1e-5);
        ASSERT_EQ(b[t].top.size(), k == 4 ? 1U : 2U);
        for (size_t n = 0; n < b[t].top.size(); ++n)
          EXPECT_NEAR(b[t].top[n].second, a[t].top[n].second, 1e-5);
      }
    }
    // More likely tokens than are known: the scores are computed again.
    ServiceRequest more = requests[0];
    more.n_top = 5;
    const auto answer = run(more);
    EXPECT_EQ(answer->cached, 0);
    EXPECT_EQ(answer->prompt_scores.back().top.size(), 5U);
    // The text does not depend on what was scored.
    const ServiceRequest text = request(kind, joined(context, tokens(60, 90)), 20);
    EXPECT_EQ(run(text)->results[0].ids, alone(text).ids);
  }
}

// Requests with one prefix that come at the same time share it, too: each begins when its first chunk is due.
TEST_F(ServiceTest, RequestsThatRunTogetherShareTheirPrefix) {
  open({.parallel = 6});
  const std::vector<int32_t> context = tokens(31, 21);  // less than a chunk
  std::vector<std::shared_ptr<Answer>> answers;
  for (uint64_t k = 0; k < 6; ++k) {
    ServiceRequest r = request(PolicyKind::kFull, joined(context, tokens(1, 50 + k)), 1);
    r.score_prompt = true;
    answers.push_back(submit(r));
  }
  int64_t n_reused = 0;
  for (const auto& answer : answers) {
    wait(answer);
    n_reused += answer->cached > 0 ? 1 : 0;
    EXPECT_EQ(answer->prompt_scores.size(), 31U);
  }
  EXPECT_EQ(n_reused, 5);
  ASSERT_TRUE(service_->wait_idle(10));
  // One that begins in the pass in which another one is fed finds a score less.
  EXPECT_GE(service_->state().prefix_hits, 5 * 29);
}

// Kept sessions are dropped for requests, the oldest first, and take no more than the limit.
TEST_F(ServiceTest, KeptSessionsMakeRoomForRequests) {
  open();
  const int64_t one = service_->kv_bytes_at_most(policy(PolicyKind::kFull), 340);
  open({.parallel = 1, .kv_memory = 4 * one});
  for (uint64_t k = 0; k < 10; ++k) {
    const auto answer = run(request(PolicyKind::kFull, tokens(320, k), 20));
    EXPECT_EQ(answer->cached, 0);
    ASSERT_TRUE(service_->wait_idle(10));
    EXPECT_LE(service_->state().kv_prefixes, 4 * one);
  }
  EXPECT_GE(service_->state().n_prefixes, 1);
  EXPECT_LE(service_->state().n_prefixes, 7);
  EXPECT_GT(run(request(PolicyKind::kFull, tokens(320, 9), 20))->cached, 280);
  EXPECT_EQ(run(request(PolicyKind::kFull, tokens(320, 0), 20))->cached, 0);
}

// Where there is no memory for marks, a conversation still continues from its end.
TEST_F(ServiceTest, AConversationNeedsNoMemoryForMarks) {
  for (const int64_t times : {1, 2, 4}) {
    SCOPED_TRACE(times);
    open();
    const int64_t one = service_->kv_bytes_at_most(policy(PolicyKind::kSepStream), 500);
    open({.parallel = 1, .kv_memory = times * one + times * one / 3});
    std::vector<int32_t> said;
    for (uint64_t turn = 0; turn < 6; ++turn) {
      const ServiceRequest r = request(PolicyKind::kSepStream, joined(said, tokens(40, turn)), 10);
      const auto answer = run(r);
      ASSERT_EQ(answer->results[0].new_tokens, 10);
      EXPECT_EQ(answer->cached, turn == 0 ? 0 : std::ssize(said) - 1);
      said = joined(r.generate.prompt, answer->results[0].ids);
      ASSERT_TRUE(service_->wait_idle(10));
      EXPECT_LE(service_->state().kv_prefixes, service_->kv_limit());
    }
  }
}

// A request that was cancelled in its prompt leaves what was fed.
TEST_F(ServiceTest, WhatACancelledRequestHasFedIsReused) {
  open();
  ServiceRequest r = request(PolicyKind::kSep, tokens(3000, 8), 5);
  r.cancelled = std::make_shared<std::atomic<bool>>(false);
  const auto first = submit(r);
  wait_until([&] {
    const ServiceState s = service_->state();
    return !s.active.empty() && s.active[0].fed >= 1500;
  });
  r.cancelled->store(true);
  wait(first);
  EXPECT_LT(first->fed.back(), 3000);
  r.cancelled = nullptr;
  const auto second = run(r);
  EXPECT_EQ(second->cached, first->fed.back());
  EXPECT_EQ(second->results[0].ids, alone(r).ids);
}

}  // namespace
}  // namespace sepllm::server
