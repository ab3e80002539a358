// Shared by the tests of the service: a small random model, requests, and clients that wait for their ends.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "engine/generator.h"
#include "model/random_model.h"
#include "server/service.h"
#include "tests/support/support.h"

namespace sepllm::server::test {

// What a client gets.
struct Answer {
  std::vector<GenerateResult> results;  // by choice
  std::vector<std::string> texts;
  std::vector<std::vector<TokenScore>> scores;
  std::vector<TokenScore> prompt_scores;
  std::vector<int64_t> fed;  // after each event of the prompt
  int64_t cached = 0;
  int64_t n_ended = 0;
  std::string failure;
};

inline std::string what(const std::exception_ptr& failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const std::exception& e) {
    return e.what();
  }
}

class ServiceTest : public ::testing::Test {
 protected:
  ServiceTest() {
    write_random_model(
        folder_.path(),
        {.variant = "llama", .seed = 3, .hidden_size = 64, .n_layers = 2, .max_positions = 4000});
    model_ = std::make_unique<Model>(load_model(folder_.path(), ""));
  }

  void open(const ServiceSettings& settings = {}) {
    service_.reset();
    service_ = std::make_unique<Service>(*model_, ctx_, settings);
  }

  static std::vector<int32_t> tokens(int64_t n, uint64_t seed) {
    const Rng rng(seed);
    std::vector<int32_t> out;
    out.reserve(static_cast<size_t>(n));
    for (int64_t k = 0; k < n; ++k)
      out.push_back(static_cast<int32_t>(rng.bits(static_cast<uint64_t>(k)) % 256));
    return out;
  }
  static PolicySettings policy(PolicyKind kind) {
    PolicySettings out;
    out.policy.kind = kind;
    out.policy.window = 12;
    out.policy.seps = 8;
    out.policy.capacity = 40;
    if (out.policy.streaming()) out.policy.positions = PositionMode::kCache;
    out.prefill_chunk = 32;
    return out;
  }
  static std::vector<PolicyKind> kinds() {
    return {PolicyKind::kFull, PolicyKind::kSep,        PolicyKind::kSepStream,
            PolicyKind::kSink, PolicyKind::kSinkStream, PolicyKind::kFixed};
  }
  static ServiceRequest request(PolicyKind kind, std::vector<int32_t> prompt, int64_t n_new) {
    ServiceRequest r;
    r.policy = policy(kind);
    r.generate.prompt = std::move(prompt);
    r.generate.max_new_tokens = n_new;
    r.generate.ignore_eos = true;
    return r;
  }

  // Submits it; the answer is filled from the service's thread.
  std::shared_ptr<Answer> submit(ServiceRequest r) {
    auto answer = std::make_shared<Answer>();
    const auto n = static_cast<size_t>(r.n_choices);
    answer->results.resize(n);
    answer->texts.resize(n);
    answer->scores.resize(n);
    r.on_prompt = [answer](const PromptEvent& e) {
      answer->fed.push_back(e.fed);
      answer->cached = e.cached;
      if (!e.scores.empty()) {
        EXPECT_EQ(e.first, std::ssize(answer->prompt_scores) + 1);
      }
      answer->prompt_scores.insert(answer->prompt_scores.end(), e.scores.begin(), e.scores.end());
      ASSERT_NE(e.session, nullptr);
      EXPECT_EQ(e.session->cache().length(), e.fed);
    };
    r.on_text = [answer, chain = r.on_text](const TextEvent& e) {
      const auto c = static_cast<size_t>(e.choice);
      answer->texts[c] += e.text;
      answer->scores[c].insert(answer->scores[c].end(), e.scores.begin(), e.scores.end());
      if (chain) chain(e);
    };
    r.on_end = [this, answer, chain = r.on_end](const EndEvent& e) {
      if (chain) chain(e);
      const std::lock_guard lock(mutex_);
      answer->results[static_cast<size_t>(e.choice)] = *e.result;
      if (e.result->failure) answer->failure = what(e.result->failure);
      EXPECT_EQ(e.cached_tokens, answer->cached);
      ++answer->n_ended;
      ended_.notify_all();
    };
    if (!service_->submit(std::move(r))) return nullptr;
    return answer;
  }
  void wait(const std::shared_ptr<Answer>& answer) {
    ASSERT_NE(answer, nullptr);
    std::unique_lock lock(mutex_);
    ASSERT_TRUE(ended_.wait_for(lock, std::chrono::seconds(60),
                                [&] { return answer->n_ended == std::ssize(answer->results); }));
    EXPECT_EQ(answer->failure, "");
  }
  std::shared_ptr<Answer> run(ServiceRequest r) {
    auto answer = submit(std::move(r));
    wait(answer);
    return answer;
  }
  GenerateResult alone(const ServiceRequest& r, int64_t choice = 0) {
    Session session(*model_, r.policy, other_ctx_);
    SamplingSettings sampling = r.sampling;
    sampling.seed += choice;
    Sampler sampler(sampling, model_->config().vocab_size);
    return generate(session, sampler, r.generate, {});
  }
  void wait_until(const std::function<bool()>& holds) const {
    for (int k = 0; k < 20000 && !holds(); ++k) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    ASSERT_TRUE(holds());
  }

  sepllm::test::TemporaryFolder folder_;
  std::unique_ptr<Model> model_;
  ThreadPool pool_{2}, one_{1};
  Arena arena_, other_arena_;
  Context ctx_{pool_, arena_}, other_ctx_{one_, other_arena_};
  std::mutex mutex_;
  std::condition_variable ended_;
  std::unique_ptr<Service> service_;
};

}  // namespace sepllm::server::test
