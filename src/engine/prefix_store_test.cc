#include "engine/prefix_store.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "engine/session_test_support.h"

namespace sepllm {
namespace {

class PrefixStoreTest : public test::SessionStateTest {
 protected:
  std::shared_ptr<HeldSession> held(PrefixStore* store, const PolicySettings& settings, int64_t n) {
    auto session = std::make_shared<Session>(*model_, settings, ctx_);
    session->keep_marks({.interval = 16});
    advance_to(*session, n);
    auto out = store->add(session, "policy");
    out->prompt_end = n;
    return out;
  }
  std::vector<int32_t> prompt(int64_t n_same, int64_t n_other) const {
    std::vector<int32_t> out(ids_.begin(), ids_.begin() + n_same);
    for (int64_t k = 0; k < n_other; ++k) out.push_back(ids_[static_cast<size_t>(n_same + k)] ^ 1);
    return out;
  }
  static std::string bits(const Session& session) {
    std::string out;
    StringWriter writer(&out);
    session.cache().save(writer);
    return out;
  }
  const std::string policy_ = "policy", other_policy_ = "other";
};

// What is taken or copied is what a session that was fed the beginning of the prompt holds.
TEST_F(PrefixStoreTest, TheBeginningHasTheBitsOfAFedSession) {
  for (const auto& [name, settings] : all_settings()) {
    SCOPED_TRACE(name);
    PrefixStore store;
    store.give_back(held(&store, settings, 300));
    for (const int64_t n_same : {299, 290, 250, 200, 130, 40}) {
      const std::vector<int32_t> p = prompt(n_same, 12);
      const PrefixStore::Found found = store.take({.prompt = p, .policy = policy_}, ctx_);
      EXPECT_EQ(found.in_common, n_same);
      if (n_same >= 40 && name == "full") {
        EXPECT_GE(found.n_fed, n_same - 9);
      }
      if (!found.held) continue;
      EXPECT_LE(found.n_fed, n_same);
      EXPECT_TRUE(found.held->in_use);
      Session fed(*model_, settings, ctx_);
      std::span<const int32_t> left = std::span(p).first(static_cast<size_t>(found.n_fed));
      // (Whole chunks: the prompt continues.)
      while (!left.empty()) {
        const auto n = static_cast<size_t>(fed.next_chunk());
        ASSERT_LE(n, left.size()) << "a chunk was cut";
        fed.feed(left.first(n));
        left = left.subspan(n);
      }
      const auto rest = std::span(p).subspan(static_cast<size_t>(found.n_fed));
      const auto a = found.held->session->advance(rest);
      const std::vector<float> reused(a.begin(), a.end());
      const auto b = fed.advance(rest);
      EXPECT_TRUE(std::equal(reused.begin(), reused.end(), b.begin())) << n_same;
      EXPECT_TRUE(bits(*found.held->session) == bits(fed)) << n_same;
      // (The one of 300 tokens comes back only if it was copied.)
      store.remove(found.held);
      if (store.n_idle() == 0) store.give_back(held(&store, settings, 300));
    }
  }
}

TEST_F(PrefixStoreTest, TakesWhatLosesLittleAndCopiesTheRest) {
  const PolicySettings full = all_settings()[0].second;
  PrefixStore store;
  const auto first = held(&store, full, 300);
  EXPECT_EQ(store.idle_bytes(), 0);
  // In use: copied, never taken.
  const std::vector<int32_t> longer = prompt(300, 20);
  PrefixStore::Found found = store.take({.prompt = longer, .policy = policy_}, ctx_);
  ASSERT_TRUE(found.held);
  EXPECT_NE(found.held, first);
  EXPECT_EQ(found.held->session->cache().length(), found.n_fed);
  store.remove(found.held);

  store.give_back(first);
  EXPECT_GT(store.idle_bytes(), first->session->cache().stats().reserved_bytes);
  EXPECT_FALSE(store.take({.prompt = longer, .policy = other_policy_}, ctx_).held);
  const std::vector<int32_t> branch = prompt(100, 20);
  found = store.take({.prompt = branch, .policy = policy_}, ctx_);
  ASSERT_TRUE(found.held);
  EXPECT_NE(found.held, first);
  EXPECT_EQ(found.n_fed, 99) << "whole chunks of 9";
  EXPECT_LT(found.held->session->cache().stats().reserved_bytes,
            first->session->cache().stats().reserved_bytes / 2);
  EXPECT_EQ(first->session->cache().length(), 300);
  found = store.take({.prompt = longer, .policy = policy_}, ctx_);
  EXPECT_EQ(found.held, first) << "it loses nothing";
  EXPECT_EQ(store.idle_bytes(), 0);
  // Of an answer, everything may be lost.
  first->prompt_end = 150;
  store.give_back(first);
  const std::vector<int32_t> other_answer = prompt(160, 30);
  EXPECT_EQ(store.take({.prompt = other_answer, .policy = policy_}, ctx_).held, first);
}

TEST_F(PrefixStoreTest, GeneratedTokensAreReusedByTheRules) {
  const PolicySettings full = all_settings()[0].second;
  PrefixStore store;
  auto session = std::make_shared<Session>(*model_, full, ctx_);
  session->keep_marks();
  advance_to(*session, 40);  // a prompt: four chunks of 9, and 4 tokens
  for (int64_t n = 41; n <= 200; ++n) advance_to(*session, n);
  auto one = store.add(session, policy_);
  one->first_generated = 40;
  one->prompt_end = 1000;  // so that it is always copied
  store.give_back(one);
  for (const auto& [n_same, expected] : {std::pair{30, 27}, {38, 36}, {40, 36}, {41, 41}, {60, 60}}) {
    const std::vector<int32_t> p = prompt(n_same, 5);
    const PrefixStore::Found found = store.take({.prompt = p, .policy = policy_}, ctx_);
    EXPECT_EQ(found.n_fed, expected) << n_same;
    ASSERT_TRUE(found.held);
    EXPECT_EQ(found.held->first_generated, n_same > 40 ? 40 : HeldSession::kNone);
    store.remove(found.held);
  }
}

TEST_F(PrefixStoreTest, DropsTheOldestFirst) {
  const PolicySettings sep = all_settings()[1].second;
  PrefixStore store;
  std::vector<std::shared_ptr<HeldSession>> all;
  for (int k = 0; k < 4; ++k) {
    all.push_back(held(&store, sep, 100));
    all.back()->policy = std::to_string(k);
  }
  for (const auto& h : all) store.give_back(h);
  EXPECT_EQ(store.n_idle(), 4);
  const std::vector<int32_t> p = prompt(100, 5);
  const std::string first = "0";
  store.touch({.prompt = p, .policy = first});
  store.drop_to(store.idle_bytes() - 1);
  EXPECT_EQ(store.n_idle(), 4) << "marks before sessions";
  EXPECT_EQ(all[1]->session->marks().positions(), std::vector<int64_t>{0});
  for (const size_t k : {0, 2, 3}) EXPECT_GT(all[k]->session->marks().positions().size(), 1U);
  while (store.n_idle() == 4) store.drop_to(store.idle_bytes() - 1);
  EXPECT_EQ(store.n_idle(), 3);
  for (const size_t k : {0, 2, 3}) EXPECT_EQ(all[k]->session->marks().positions().size(), 1U);
  const auto is_there = [&](const std::string& policy) {
    return store.take({.prompt = p, .policy = policy}, ctx_).in_common > 0;
  };
  EXPECT_TRUE(is_there("0"));
  EXPECT_FALSE(is_there("1"));
  store.drop_to(0);
  EXPECT_EQ(store.n_idle(), 0);
  EXPECT_EQ(store.idle_bytes(), 0);
}

TEST_F(PrefixStoreTest, ScoresReachAsFarAsTheyAreKnown) {
  const PolicySettings full = all_settings()[0].second;
  PrefixStore store;
  const auto one = held(&store, full, 100);
  for (size_t k = 1; k <= 60; ++k)
    one->scores.push_back({.id = ids_[k], .logprob = -1.0F, .top = {{1, -1.0F}}});
  one->n_top = 1;
  store.give_back(one);
  const std::vector<int32_t> p = prompt(90, 10);
  EXPECT_EQ(store.take({.prompt = p, .policy = policy_, .scored = true, .n_top = 2}, ctx_).n_fed, 0);
  PrefixStore::Found found = store.take({.prompt = p, .policy = policy_, .scored = true, .n_top = 1}, ctx_);
  EXPECT_EQ(found.n_fed, 60);
  EXPECT_EQ(found.held->scores.size(), 60U);
  store.give_back(found.held);
  const std::vector<int32_t> shorter = prompt(30, 10);
  found = store.take({.prompt = shorter, .policy = policy_, .scored = true}, ctx_);
  EXPECT_EQ(found.n_fed, 29) << "the token before the first other one predicts it";
  EXPECT_EQ(found.held->scores.size(), 29U);
}

}  // namespace
}  // namespace sepllm
