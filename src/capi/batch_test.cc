// Several sessions and several texts in one pass: the same bits as one by one, and what callers may do wrong.
#include <sepllm/sepllm.h>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <ios>
#include <string>
#include <thread>
#include <vector>

#include "base/json.h"
#include "capi/capi_test_support.h"

namespace sepllm::test {
namespace {

constexpr std::array<const char*, 5> kPolicies = {
    R"({"policy": "full"})", kSepPolicy, R"({"policy": "sink", "init": 2, "window": 5, "kv": "q8"})",
    R"({"policy": "sep-stream", "init": 2, "window": 8, "seps": 6, "capacity": 24, "rewind": false})",
    R"({"policy": "sink-stream", "init": 2, "capacity": 16, "kv": "f16"})"};

class CApiBatch : public CApiModel {
 protected:
  using Sessions = std::vector<Handle<sepllm_session>>;

  static Handle<sepllm_session> fork(const Handle<sepllm_session>& session) {
    sepllm_session* out = nullptr;
    ok(sepllm_session_fork(session.get(), nullptr, &out));
    return Handle<sepllm_session>(out);
  }
  static std::vector<sepllm_session*> pointers(const Sessions& sessions) {
    std::vector<sepllm_session*> out;
    for (const auto& s : sessions) out.push_back(s.get());
    return out;
  }
  // Sessions of all policies and different lengths, two of them forks of one beginning, and one empty.
  Sessions mixed(size_t n) const {
    Sessions out;
    out.push_back(session());
    for (size_t i = 1; i < n; ++i) {
      out.push_back(session(kPolicies[i % kPolicies.size()]));
      fed(out.back(), i, 3 * i);
      if (++i < n) out.push_back(fork(out.back()));
    }
    return out;
  }
  int32_t token(size_t session, size_t step) const { return ids_[(31 * session + step) % ids_.size()]; }
};

TEST_F(CApiBatch, SessionsTakeATokenEachWithTheBitsOfSingleSteps) {
  constexpr size_t kSessions = 37;  // more than one pass takes
  const Sessions together = mixed(kSessions), separate = mixed(kSessions);
  std::vector<int32_t> ids(kSessions);
  for (size_t step = 0; step < 25; ++step) {
    for (size_t i = 0; i < kSessions; ++i) ids[i] = token(i, step);
    ok(sepllm_sessions_decode(pointers(together).data(), kSessions, ids.data()));
    for (size_t i = 0; i < kSessions; ++i) {
      ok(sepllm_session_feed(separate[i].get(), &ids[i], 1));
      ASSERT_EQ(logits(together[i]), logits(separate[i])) << i << " " << step;
    }
  }
  for (size_t i = 0; i < kSessions; ++i) {
    EXPECT_EQ(sepllm_session_length(together[i].get()), sepllm_session_length(separate[i].get()));
    sepllm_kv_stats a{}, b{};
    ok(sepllm_session_kv_stats(together[i].get(), &a));
    ok(sepllm_session_kv_stats(separate[i].get(), &b));
    EXPECT_EQ(a.keys, b.keys);
  }
  ok(sepllm_session_rewind(together[1].get(), 20));  // the tokens are known to the session
  ok(sepllm_session_rewind(separate[1].get(), 20));
  EXPECT_EQ(fed(together[1], 0, 5), fed(separate[1], 0, 5));
}

TEST_F(CApiBatch, QuantizedWeightsGiveTheBitsOfSingleStepsToo) {
  for (const char* weights : {"q8_0", "q4_0", "bf16"}) {
    sepllm_model* m = nullptr;
    const std::string options = R"({"threads": 2, "weights": ")" + std::string(weights) + "\"}";
    ok(sepllm_model_load(folder_.path().c_str(), options.c_str(), &m));
    model_.reset(m);
    constexpr size_t kSessions = 32;
    const Sessions together = mixed(kSessions), separate = mixed(kSessions);
    std::vector<int32_t> ids;
    for (size_t i = 0; i < kSessions; ++i) ids.push_back(token(i, 0));
    ok(sepllm_sessions_decode(pointers(together).data(), kSessions, ids.data()));
    for (size_t i = 0; i < kSessions; ++i) {
      ok(sepllm_session_feed(separate[i].get(), &ids[i], 1));
      ASSERT_EQ(logits(together[i]), logits(separate[i])) << weights << " " << i;
    }
  }
}

TEST_F(CApiBatch, WrongSessionsAreRefusedAndNothingChanges) {
  const Sessions two = mixed(3);
  const std::vector<float> before = logits(two[1]);
  const std::vector<int32_t> ids = {1, 2, 3};
  const auto check = [&](std::vector<sepllm_session*> sessions, const char* part) {
    refused(sepllm_sessions_decode(sessions.data(), sessions.size(), ids.data()), SEPLLM_INVALID_ARGUMENT,
            part);
  };
  sepllm_session *a = two[0].get(), *b = two[1].get();
  check({}, "no sessions");
  check({a, nullptr}, "a session is NULL");
  check({b, a, b}, "session 2: it is among the sessions twice");
  const auto exact = session(R"({"exact": true})");
  check({b, exact.get()}, "session 1: some of the sessions are \"exact\"");
  sepllm_runtime* r = nullptr;
  ok(sepllm_runtime_new(1, &r));
  const Handle<sepllm_runtime> runtime(r);
  const auto elsewhere = session(nullptr, r);
  check({b, elsewhere.get()}, "another runtime");
  sepllm_model* m = nullptr;
  ok(sepllm_model_load(folder_.path().c_str(), R"({"threads": 1})", &m));
  const Handle<sepllm_model> model(m);
  sepllm_session* s = nullptr;
  ok(sepllm_session_new(m, nullptr, nullptr, &s));
  const Handle<sepllm_session> foreign(s);
  check({b, s}, "session 1: it belongs to another model");
  const std::vector<sepllm_session*> both = {b, a};
  refused(sepllm_sessions_decode(nullptr, 2, ids.data()), SEPLLM_INVALID_ARGUMENT, "sessions is NULL");
  refused(sepllm_sessions_decode(both.data(), 2, nullptr), SEPLLM_INVALID_ARGUMENT, "ids is NULL");
  for (const int32_t wrong : {-1, 1 << 20}) {
    const std::array<int32_t, 2> one_wrong = {1, wrong};
    refused(sepllm_sessions_decode(both.data(), 2, one_wrong.data()), SEPLLM_INVALID_ARGUMENT, "session 1: ");
  }
  EXPECT_EQ(logits(two[1]), before);
  EXPECT_EQ(sepllm_session_length(a), 0);
  ok(sepllm_sessions_decode(both.data(), 2, ids.data()));
}

TEST_F(CApiBatch, AsksBeforeThePassAndRefusesASecondCall) {
  struct Asked {
    sepllm_session* other;
    sepllm_status inner = SEPLLM_OK;
    int answer = 1;
  } asked;
  const Sessions two = mixed(2);
  asked.other = two[0].get();
  const auto poll = [](void* user) {
    auto& a = *static_cast<Asked*>(user);
    std::thread([&a] {
      const int32_t id = 1;
      a.inner = sepllm_sessions_decode(&a.other, 1, &id);
    }).join();
    return a.answer;
  };
  ok(sepllm_session_set_poll(two[1].get(), poll, &asked));
  const std::array<int32_t, 2> ids = {1, 2};
  const std::vector<float> before = logits(two[1]);
  refused(sepllm_sessions_decode(pointers(two).data(), 2, ids.data()), SEPLLM_CANCELLED, "cancelled");
  EXPECT_EQ(asked.inner, SEPLLM_BUSY);
  EXPECT_EQ(sepllm_session_length(two[0].get()), 0);
  EXPECT_EQ(logits(two[1]), before);
  asked.answer = 0;
  ok(sepllm_sessions_decode(pointers(two).data(), 2, ids.data()));
}

// Two threads on one runtime, and one on its own.
TEST_F(CApiBatch, BatchesOfSeveralThreads) {
  std::array<std::vector<float>, 3> results;
  std::vector<std::thread> threads;
  for (size_t t = 0; t < results.size(); ++t) {
    threads.emplace_back([&, t] {
      sepllm_runtime* own = nullptr;
      if (t == 0) ok(sepllm_runtime_new(1, &own));
      const Handle<sepllm_runtime> runtime(own);
      Sessions sessions;
      for (size_t i = 0; i < 4; ++i) sessions.push_back(session(kPolicies[i], own));
      for (size_t step = 0; step < 30; ++step) {
        const std::array<int32_t, 4> ids = {token(0, step), token(1, step), token(2, step), token(3, step)};
        ok(sepllm_sessions_decode(pointers(sessions).data(), 4, ids.data()));
      }
      for (const auto& s : sessions) {
        for (const float x : logits(s)) results[t].push_back(x);
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(results[1], results[0]);
  EXPECT_EQ(results[2], results[0]);
}

// --- Texts ---

struct Ended {
  std::vector<int32_t> ids;
  std::string text, pieces;
  sepllm_finish finish = SEPLLM_FINISH_NONE;
  bool operator==(const Ended& other) const {
    return ids == other.ids && text == other.text && pieces == other.pieces && finish == other.finish;
  }
};

Ended ended(sepllm_generation* generation, const std::string& pieces) {
  sepllm_generation_result r{};
  ok(sepllm_generation_get(generation, &r));
  return {{r.ids, r.ids + r.n_ids}, {r.text, r.n_bytes}, pieces, r.finish};
}

class CApiTexts : public CApiBatch {
 protected:
  // Text i continues a session that has seen something or nothing, with its own options.
  Handle<sepllm_generation> text(const Handle<sepllm_session>& session, size_t i) const {
    const std::string stop = i % 3 == 0 ? R"(, "stop": ["e", "ab"])" : "";
    const std::string options =
        R"({"temp": 1.1, "top-k": 40, "ignore-eos": true, "repeat-penalty": 1.1, "n": )" +
        std::to_string(4 + 5 * i) + R"(, "seed": )" + std::to_string(i) + stop + "}";
    const size_t n_prompt = i % 4 == 2 ? 0 : 1 + 11 * (i % 3);  // 0: from the session's logits
    sepllm_generation* out = nullptr;
    ok(sepllm_generation_new(session.get(), ids_.data() + i, n_prompt, options.c_str(), &out));
    return Handle<sepllm_generation>(out);
  }
};

TEST_F(CApiTexts, TogetherTheyAreWhatEachIsByItself) {
  constexpr size_t kTexts = 12;
  const Sessions together = mixed(kTexts), separate = mixed(kTexts);
  std::vector<Ended> expected;
  std::vector<Handle<sepllm_generation>> texts;
  std::vector<sepllm_generation*> all;
  for (size_t i = 0; i < kTexts; ++i) {
    const auto single = text(separate[i], i);
    std::string pieces;
    for (int more = 1; more != 0;) {
      const char* piece = nullptr;
      size_t n = 0;
      ok(sepllm_generation_next(single.get(), &piece, &n, &more));
      pieces.append(piece, n);
    }
    expected.push_back(ended(single.get(), pieces));
    texts.push_back(text(together[i], i));
    all.push_back(texts.back().get());
  }
  std::vector<std::string> pieces(kTexts);
  std::vector<sepllm_generation_step> steps(kTexts);
  for (size_t n_more = kTexts, round = 0; n_more > 0; ++round) {
    ASSERT_LT(round, 100U);
    ok(sepllm_generations_next(all.data(), kTexts, steps.data()));
    n_more = 0;
    for (size_t i = 0; i < kTexts; ++i) {
      EXPECT_EQ(steps[i].status, SEPLLM_OK);
      EXPECT_EQ(steps[i].error, nullptr);
      pieces[i].append(steps[i].text, steps[i].n_bytes);
      n_more += static_cast<size_t>(steps[i].more);
    }
  }
  for (size_t i = 0; i < kTexts; ++i) {
    EXPECT_EQ(ended(all[i], pieces[i]), expected[i]) << i;
    EXPECT_EQ(sepllm_session_length(together[i].get()), sepllm_session_length(separate[i].get())) << i;
    EXPECT_EQ(fed(together[i], 0, 7), fed(separate[i], 0, 7)) << i;
  }
}

TEST_F(CApiTexts, WrongCallsAreRefused) {
  const Sessions two = mixed(2);
  const auto a = text(two[0], 0), b = text(two[1], 1), again = text(two[1], 3);
  std::array<sepllm_generation_step, 2> steps{};
  const auto check = [&](std::vector<sepllm_generation*> all, sepllm_generation_step* out, const char* part) {
    refused(sepllm_generations_next(all.data(), all.size(), out), SEPLLM_INVALID_ARGUMENT, part);
  };
  check({}, steps.data(), "no sessions");
  check({a.get(), nullptr}, steps.data(), "a generation is NULL");
  check({a.get(), b.get()}, nullptr, "out is NULL");
  check({b.get(), b.get()}, steps.data(), "twice");
  check({b.get(), again.get()}, steps.data(), "twice");
  refused(sepllm_generations_next(nullptr, 2, steps.data()), SEPLLM_INVALID_ARGUMENT, "generations is NULL");
  EXPECT_EQ(sepllm_session_length(two[0].get()), 0);
}

TEST_F(CApiTexts, WhatOneTextFailsWithDoesNotConcernTheOthers) {
  const Sessions four = mixed(4);
  std::vector<Handle<sepllm_generation>> texts;
  std::vector<sepllm_generation*> all;
  for (size_t i = 0; i < 4; ++i) {
    sepllm_generation* g = nullptr;
    ok(sepllm_generation_new(four[i].get(), ids_.data(), 9, R"({"n": 6, "ignore-eos": true})", &g));
    texts.emplace_back(g);
    all.push_back(g);
  }
  std::array<sepllm_generation_step, 4> steps{};
  const auto next = [&] { ok(sepllm_generations_next(all.data(), 4, steps.data())); };
  next();
  next();
  fed(four[1], 0, 2);  // the session of a text was changed, and another text is cancelled
  ok(sepllm_session_set_poll(
      four[2].get(), [](void*) { return 1; }, nullptr));
  next();
  EXPECT_EQ(steps[1].status, SEPLLM_INVALID_STATE);
  EXPECT_NE(std::string(steps[1].error).find("changed"), std::string::npos);
  EXPECT_EQ(steps[2].status, SEPLLM_CANCELLED);
  EXPECT_EQ(steps[2].more, 0);
  for (const size_t i : {size_t{0}, size_t{3}}) {
    EXPECT_EQ(steps[i].status, SEPLLM_OK);
    EXPECT_EQ(steps[i].more, 1);
  }
  next();
  EXPECT_EQ(steps[2].status, SEPLLM_OK);  // it is told once
  next();
  next();
  EXPECT_EQ(ended(all[0], "").finish, SEPLLM_FINISH_LENGTH);
  EXPECT_EQ(ended(all[0], "").ids.size(), 6U);
  EXPECT_EQ(ended(all[2], "").finish, SEPLLM_FINISH_CANCELLED);
}

// Makes the embedding of one token NaN, in a folder of write_random_model().
void spoil_embedding(const std::string& folder, int32_t id, int64_t hidden_size) {
  std::fstream file(folder + "/model.safetensors", std::ios::in | std::ios::out | std::ios::binary);
  uint64_t n_header = 0;
  file.read(reinterpret_cast<char*>(&n_header), 8);
  std::string header(n_header, ' ');
  file.read(header.data(), static_cast<std::streamsize>(n_header));
  const Json tensor = parse_json(header, "header").at("model.embed_tokens.weight");
  const std::vector<float> row(static_cast<size_t>(hidden_size), std::nanf(""));
  const auto n_bytes = static_cast<std::streamsize>(row.size() * sizeof(float));
  file.seekp(static_cast<std::streamoff>(8 + n_header + tensor.at("data_offsets").at(0).get<uint64_t>()) +
             id * n_bytes);
  file.write(reinterpret_cast<const char*>(row.data()), n_bytes);
  ASSERT_TRUE(file.good());
}

TEST_F(CApiTexts, LogitsThatAreNotFiniteConcernOneSequence) {
  const auto whole = session();
  fed(whole, 0, 20);
  int32_t next = -1;
  ok(sepllm_session_sample(whole.get(), &next));
  const TemporaryFolder folder;
  write_random_model(folder.path(), {.variant = "llama", .seed = 3, .hidden_size = 32, .n_layers = 2});
  spoil_embedding(folder.path(), next, 32);
  sepllm_model* m = nullptr;
  ok(sepllm_model_load(folder.path().c_str(), R"({"threads": 2})", &m));
  model_.reset(m);
  const auto bad = session(), good = session(), separate = session();
  fed(bad, 0, 20);
  fed(good, 30, 9);
  fed(separate, 30, 9);
  const int32_t other = next == 5 ? 6 : 5;

  // A text that takes the token, and one that ends before it could.
  const auto long_text = fork(bad), short_text = fork(good);
  std::array<sepllm_generation*, 2> texts{};
  ok(sepllm_generation_new(long_text.get(), nullptr, 0, R"({"n": 9, "ignore-eos": true})", &texts[0]));
  const Handle<sepllm_generation> first(texts[0]);
  ok(sepllm_generation_new(short_text.get(), &other, 1, R"({"n": 1, "ignore-eos": true})", &texts[1]));
  const Handle<sepllm_generation> second(texts[1]);
  std::array<sepllm_generation_step, 2> steps{};
  ok(sepllm_generations_next(texts.data(), 2, steps.data()));
  EXPECT_EQ(steps[0].more, 1);
  ok(sepllm_generations_next(texts.data(), 2, steps.data()));
  EXPECT_EQ(steps[0].status, SEPLLM_BAD_FILE);
  EXPECT_EQ(steps[1].status, SEPLLM_OK);
  EXPECT_EQ(ended(texts[0], "").finish, SEPLLM_FINISH_ERROR);
  EXPECT_EQ(ended(texts[1], "").finish, SEPLLM_FINISH_LENGTH);

  const std::array<sepllm_session*, 2> both = {bad.get(), good.get()};
  const std::array<int32_t, 2> ids = {next, other};
  refused(sepllm_sessions_decode(both.data(), 2, ids.data()), SEPLLM_BAD_FILE, "NaN or infinite");
  ok(sepllm_session_feed(separate.get(), &other, 1));
  EXPECT_EQ(logits(good), logits(separate));
  std::vector<float> none(static_cast<size_t>(n_logits_));
  refused(sepllm_session_logits(bad.get(), none.data(), n_logits_), SEPLLM_INVALID_STATE, "no logits");
  EXPECT_EQ(sepllm_session_length(bad.get()), 21);
}

TEST(CApiTextsWithLearnedPositions, OneEndsWithThemAndTheOtherGoesOn) {
  const TemporaryFolder folder;
  write_random_model(folder.path(),
                     {.variant = "gpt2", .hidden_size = 32, .n_layers = 1, .max_positions = 32});
  sepllm_model* m = nullptr;
  ok(sepllm_model_load(folder.path().c_str(), nullptr, &m));
  const Handle<sepllm_model> model(m);
  const std::vector<int32_t> ids(32, 7);
  std::vector<Handle<sepllm_session>> sessions;
  std::vector<Handle<sepllm_generation>> texts;
  std::vector<sepllm_generation*> all;
  for (const size_t n : {size_t{31}, size_t{8}}) {
    sepllm_session* s = nullptr;
    ok(sepllm_session_new(m, nullptr, nullptr, &s));
    sessions.emplace_back(s);
    sepllm_generation* g = nullptr;
    ok(sepllm_generation_new(s, ids.data(), n, R"({"n": 5, "ignore-eos": true})", &g));
    texts.emplace_back(g);
    all.push_back(g);
  }
  std::array<sepllm_generation_step, 2> steps{};
  for (int round = 0; round < 3; ++round) ok(sepllm_generations_next(all.data(), 2, steps.data()));
  EXPECT_EQ(steps[0].status, SEPLLM_OUT_OF_RANGE);
  EXPECT_NE(std::string(steps[0].error).find("learned positions"), std::string::npos);
  EXPECT_EQ(steps[1].more, 1);
  for (int round = 0; round < 2; ++round) ok(sepllm_generations_next(all.data(), 2, steps.data()));
  EXPECT_EQ(steps[0].status, SEPLLM_OK);
  EXPECT_EQ(ended(all[0], "").finish, SEPLLM_FINISH_ERROR);
  EXPECT_EQ(ended(all[0], "").ids.size(), 2U);
  EXPECT_EQ(ended(all[1], "").finish, SEPLLM_FINISH_LENGTH);
  // The same with sessions: nothing changes for any of them.
  const std::array<sepllm_session*, 2> both = {sessions[1].get(), sessions[0].get()};
  refused(sepllm_sessions_decode(both.data(), 2, ids.data()), SEPLLM_OUT_OF_RANGE, "session 1: ");
  EXPECT_EQ(sepllm_session_length(both[0]), 8 + 4);
}

}  // namespace
}  // namespace sepllm::test
