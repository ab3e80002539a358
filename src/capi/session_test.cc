// Sessions through the C functions: the same bits as the C++ classes, and what callers may do wrong.
#include "engine/session.h"

#include <sepllm/sepllm.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/json.h"
#include "base/log.h"
#include "capi/capi_test_support.h"
#include "engine/scorer.h"

namespace sepllm::test {
namespace {

PolicySettings sep_policy() {
  PolicySettings settings;
  settings.policy.kind = PolicyKind::kSep;
  settings.policy.init = 3;
  settings.policy.window = 7;
  settings.prefill_chunk = 9;
  return settings;
}

TEST_F(CApiModel, LogitsAndLossesHaveTheBitsOfTheEngine) {
  const Model model = load_model(folder_.path(), "");
  ThreadPool pool(1);
  Arena arena;
  Session direct(model, sep_policy(), Context{pool, arena});
  const std::span<const float> expected = direct.advance(ids_);
  const auto s = session(kSepPolicy);
  EXPECT_EQ(fed(s, 0, ids_.size()), std::vector<float>(expected.begin(), expected.end()));
  EXPECT_EQ(sepllm_session_length(s.get()), std::ssize(ids_));

  Session scored(model, sep_policy(), Context{pool, arena});
  std::vector<double> losses;
  score(scored, ids_, false, [&](std::span<const double> nll, const ScoreResult&) {
    losses.insert(losses.end(), nll.begin(), nll.end());
    return true;
  });
  std::vector<double> nll(ids_.size());
  const auto t = session(kSepPolicy);
  ok(sepllm_session_score(t.get(), ids_.data(), ids_.size(), nll.data(), nullptr));
  EXPECT_TRUE(std::isnan(nll[0]));
  EXPECT_EQ(std::vector<double>(nll.begin() + 1, nll.end()), losses);
  EXPECT_EQ(logits(t), logits(s));
}

TEST_F(CApiModel, ScoresContinueWhereTheyEnded) {
  std::vector<double> whole(90), parts(90);
  const auto a = session(kSepPolicy), b = session(kSepPolicy);
  ok(sepllm_session_score(a.get(), ids_.data(), 90, whole.data(), nullptr));
  ok(sepllm_session_score(b.get(), ids_.data(), 45, parts.data(), nullptr));
  ok(sepllm_session_score(b.get(), ids_.data() + 45, 45, parts.data() + 45, nullptr));
  for (size_t i = 1; i < whole.size(); ++i) EXPECT_NEAR(parts[i], whole[i], 1e-5) << i;
}

TEST_F(CApiModel, ScoresWithTheMostLikelyTokens) {
  std::vector<double> nll(40), plain(40);
  std::vector<int32_t> best(40);
  const auto a = session(kSepPolicy), b = session(kSepPolicy), c = session(kSepPolicy);
  ok(sepllm_session_score(a.get(), ids_.data(), 25, nll.data(), best.data()));
  ok(sepllm_session_score(a.get(), ids_.data() + 25, 15, nll.data() + 25, best.data() + 25));
  ok(sepllm_session_score(b.get(), ids_.data(), 40, plain.data(), nullptr));
  EXPECT_EQ(best[0], -1);
  for (size_t i = 1; i < nll.size(); ++i) {
    EXPECT_NEAR(nll[i], plain[i], 1e-5) << i;
    const std::vector<float> before = fed(c, i - 1, 1);
    EXPECT_EQ(best[i], std::max_element(before.begin(), before.end()) - before.begin()) << i;
  }
}

TEST_F(CApiModel, TheLastTokensAreScoredAsAmongAll) {
  std::vector<double> all(40);
  std::vector<int32_t> all_best(40);
  const auto a = session(kSepPolicy);
  ok(sepllm_session_score(a.get(), ids_.data(), 40, all.data(), all_best.data()));
  for (const size_t n :
       {size_t{0}, size_t{1}, size_t{4}, size_t{5}, size_t{23}, size_t{40}}) {  // chunks of 9
    std::vector<double> nll(n + 1, -1.0), plain(n + 1, -1.0);
    std::vector<int32_t> best(n + 1, -7);
    const auto b = session(kSepPolicy), c = session(kSepPolicy);
    ok(sepllm_session_score_last(b.get(), ids_.data(), 40, n, nll.data(), best.data()));
    ok(sepllm_session_score_last(c.get(), ids_.data(), 40, n, n == 0 ? nullptr : plain.data(), nullptr));
    EXPECT_EQ(nll[n], -1.0);  // nothing behind the end is written
    EXPECT_EQ(best[n], -7);
    for (size_t i = n == 40 ? 1 : 0; i < n; ++i) {
      EXPECT_NEAR(nll[i], all[40 - n + i], 1e-5) << n << " " << i;
      EXPECT_NEAR(plain[i], all[40 - n + i], 1e-5) << n << " " << i;
      EXPECT_EQ(best[i], all_best[40 - n + i]) << n << " " << i;
    }
    EXPECT_EQ(logits(b), logits(a));
    EXPECT_EQ(logits(c), logits(a));
  }
  const auto d = session(kSepPolicy);
  refused(sepllm_session_score_last(d.get(), ids_.data(), 4, 5, all.data(), nullptr), SEPLLM_INVALID_ARGUMENT,
          "n_scored");
  refused(sepllm_session_score_last(d.get(), ids_.data(), 4, 2, nullptr, nullptr), SEPLLM_INVALID_ARGUMENT,
          "nll is NULL");
}

TEST_F(CApiModel, ForkRewindAndRestoreGiveTheSameBits) {
  const auto s = session(kSepPolicy);
  fed(s, 0, 90);
  sepllm_session* copy = nullptr;
  ok(sepllm_session_fork(s.get(), nullptr, &copy));
  const Handle<sepllm_session> fork(copy);
  EXPECT_EQ(logits(fork), logits(s));
  const std::string file = folder_.file("state");
  ok(sepllm_session_save(s.get(), file.c_str()));
  const std::vector<float> expected = fed(s, 90, 18);
  EXPECT_EQ(fed(fork, 90, 18), expected);

  ok(sepllm_session_rewind(s.get(), 90));
  std::vector<float> none(static_cast<size_t>(n_logits_));
  refused(sepllm_session_logits(s.get(), none.data(), n_logits_), SEPLLM_INVALID_STATE, "feed");
  refused(sepllm_session_logits(s.get(), none.data(), 3), SEPLLM_INVALID_ARGUMENT, "vocab_size");
  EXPECT_EQ(sepllm_session_length(s.get()), 90);
  EXPECT_EQ(fed(s, 90, 18), expected);

  const auto restored = session(kSepPolicy);
  ok(sepllm_session_restore(restored.get(), file.c_str()));
  EXPECT_EQ(fed(restored, 90, 18), expected);
  const auto other = session(R"({"policy": "full"})");
  refused(sepllm_session_restore(other.get(), file.c_str()), SEPLLM_BAD_FILE, "another 'policy'");
  const auto forgetful = session(R"({"rewind": false})");
  fed(forgetful, 0, 9);
  refused(sepllm_session_rewind(forgetful.get(), 3), SEPLLM_INVALID_STATE, "rewind");
}

TEST_F(CApiModel, KvFiguresAndSlots) {
  const auto s = session(kSepPolicy);
  fed(s, 0, ids_.size());
  sepllm_kv_stats kv{};
  ok(sepllm_session_kv_stats(s.get(), &kv));
  EXPECT_EQ(kv.queries, 2 * std::ssize(ids_));
  EXPECT_LT(kv.mean_share, 0.8);
  EXPECT_GT(kv.held_bytes, 0);
  int64_t* positions = nullptr;
  int32_t* tokens = nullptr;
  size_t n = 0;
  ok(sepllm_session_kv_slots(s.get(), 1, &positions, &tokens, &n));
  ASSERT_GT(n, 10U);
  for (size_t i = 0; i < n; ++i) EXPECT_EQ(tokens[i], ids_[static_cast<size_t>(positions[i])]);
  EXPECT_EQ(positions[2], 2);
  EXPECT_EQ(positions[n - 1], std::ssize(ids_) - 1);
  sepllm_free(positions);
  sepllm_free(tokens);
  refused(sepllm_session_kv_slots(s.get(), 2, nullptr, nullptr, &n), SEPLLM_INVALID_ARGUMENT,
          "no such layer");
}

TEST_F(CApiModel, AsksBetweenChunksAndRefusesASecondCall) {
  struct Asked {
    sepllm_session* session;
    int n = 0;
    sepllm_status inner = SEPLLM_OK;
  } asked;
  const auto s = session(kSepPolicy);
  asked.session = s.get();
  const auto poll = [](void* user) {
    auto& a = *static_cast<Asked*>(user);
    std::thread([&a] {
      const int32_t id = 1;
      a.inner = sepllm_session_feed(a.session, &id, 1);
    }).join();
    return ++a.n == 3 ? 1 : 0;
  };
  ok(sepllm_session_set_poll(s.get(), poll, &asked));
  refused(sepllm_session_feed(s.get(), ids_.data(), ids_.size()), SEPLLM_CANCELLED, "cancelled");
  EXPECT_EQ(asked.inner, SEPLLM_BUSY);
  EXPECT_EQ(sepllm_session_length(s.get()), 2 * 9);
  ok(sepllm_session_set_poll(s.get(), nullptr, nullptr));
  const auto t = session(kSepPolicy);
  EXPECT_EQ(fed(s, 18, 100), fed(t, 0, 118));
}

TEST_F(CApiModel, SessionsOfTwoThreads) {
  std::vector<std::vector<float>> results(4);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < results.size(); ++i) {
    threads.emplace_back([&, i] {
      sepllm_runtime* own = nullptr;  // two of them have their own, and two share the model's
      if (i < 2) ok(sepllm_runtime_new(1, &own));
      const Handle<sepllm_runtime> runtime(own);
      for (int round = 0; round < 3; ++round) results[i] = fed(session(kSepPolicy, own), 0, ids_.size());
    });
  }
  for (std::thread& t : threads) t.join();
  for (const std::vector<float>& r : results) EXPECT_EQ(r, results[0]);
  EXPECT_FALSE(results[0].empty());
}

TEST_F(CApiModel, HandlesMayBeFreedInAnyOrder) {
  auto s = session(kSepPolicy);
  fed(s, 0, 20);
  sepllm_tokenizer* t = nullptr;
  ok(sepllm_model_tokenizer(model_.get(), &t));
  const Handle<sepllm_tokenizer> tokenizer(t);
  sepllm_generation* g = nullptr;
  ok(sepllm_generation_new(s.get(), nullptr, 0, R"({"n": 3, "ignore-eos": true})", &g));
  const Handle<sepllm_generation> generation(g);
  model_.reset();
  s.reset();
  const char* text = nullptr;
  int more = 1;
  while (more != 0) ok(sepllm_generation_next(g, &text, nullptr, &more));
  sepllm_generation_result result{};
  ok(sepllm_generation_get(g, &result));
  EXPECT_EQ(result.n_ids, 3U);
  EXPECT_EQ(sepllm_tokenizer_bos(t), kByteTokenizerBos);
}

TEST_F(CApiModel, WrongArgumentsAreRefused) {
  sepllm_model* model = nullptr;
  refused(sepllm_model_load(folder_.file("none").c_str(), nullptr, &model), SEPLLM_NOT_FOUND, "none");
  refused(sepllm_model_load(nullptr, nullptr, &model), SEPLLM_INVALID_ARGUMENT, "path is NULL");
  refused(sepllm_model_load(folder_.path().c_str(), R"({"weights": "q9"})", &model), SEPLLM_INVALID_ARGUMENT,
          "q8_0");
  EXPECT_EQ(model, nullptr);
  sepllm_session* s = nullptr;
  const auto refused_options = [&](const char* options, const char* part) {
    refused(sepllm_session_new(model_.get(), options, nullptr, &s), SEPLLM_INVALID_ARGUMENT, part);
  };
  refused_options(R"({"windw": 3})", "did you mean 'window'?");
  refused_options(R"({"window": 0})", "window");
  refused_options(R"({"policy": "full", "window": 3})", "'window' does not apply to 'policy' full");
  refused_options("[1]", "not a JSON object");
  refused_options("{\"window\": 3", "options");
  refused(sepllm_session_new(nullptr, nullptr, nullptr, &s), SEPLLM_INVALID_ARGUMENT, "model is NULL");
  const auto session_ = session();
  const int32_t wrong = 1 << 20;
  refused(sepllm_session_feed(session_.get(), &wrong, 1), SEPLLM_INVALID_ARGUMENT, "outside");
  refused(sepllm_session_feed(session_.get(), nullptr, 0), SEPLLM_INVALID_ARGUMENT, "no token ids");
  refused(sepllm_session_feed(session_.get(), nullptr, 2), SEPLLM_INVALID_ARGUMENT, "ids is NULL");
  refused(sepllm_session_rewind(session_.get(), 1), SEPLLM_INVALID_ARGUMENT, "position");
  int32_t id = -7;
  refused(sepllm_session_sample(session_.get(), &id), SEPLLM_INVALID_STATE, "no logits");
  EXPECT_EQ(id, -7);
  for (const auto free_none : {+[] { sepllm_model_free(nullptr); }, +[] { sepllm_session_free(nullptr); },
                               +[] { sepllm_free(nullptr); }, +[] { sepllm_cache_free(nullptr); }})
    free_none();
  EXPECT_EQ(sepllm_session_length(nullptr), 0);
}

// A model with learned positions ends where they end: an error, and the session still knows what has entered.
TEST_F(CApiModel, PositionsThatEndAreAnErrorAndTheSessionRemainsUsable) {
  const TemporaryFolder folder;
  write_random_model(folder.path(),
                     {.variant = "gpt2", .hidden_size = 32, .n_layers = 1, .max_positions = 32});
  sepllm_model* model = nullptr;
  ok(sepllm_model_load(folder.path().c_str(), nullptr, &model));
  const Handle<sepllm_model> loaded(model);
  sepllm_session* s = nullptr;
  ok(sepllm_session_new(model, R"({"prefill-chunk": 20})", nullptr, &s));
  const Handle<sepllm_session> session(s);
  refused(sepllm_session_feed(s, ids_.data(), 40), SEPLLM_OUT_OF_RANGE, "positions end");
  EXPECT_EQ(sepllm_session_length(s), 20);
  sepllm_generation* g = nullptr;
  refused(
      sepllm_session_generate(s, ids_.data(), 8, R"({"n": 20, "ignore-eos": true})", nullptr, nullptr, &g),
      SEPLLM_OUT_OF_RANGE, "positions end");
  ASSERT_NE(g, nullptr);
  const Handle<sepllm_generation> generation(g);
  sepllm_generation_result result{};
  ok(sepllm_generation_get(g, &result));
  EXPECT_EQ(result.finish, SEPLLM_FINISH_ERROR);
  EXPECT_EQ(result.n_ids, 5U);  // the last one could not enter
}

TEST_F(CApiModel, InfoAndPolicyAreJson) {
  char* text = nullptr;
  ok(sepllm_model_info(model_.get(), &text));
  const Json info = parse_json(text, "info");
  sepllm_free(text);
  EXPECT_EQ(info.at("vocab_size"), sepllm_model_vocab_size(model_.get()));
  EXPECT_EQ(info.at("n_layers"), 2);
  EXPECT_EQ(info.at("threads"), 2);
  ok(sepllm_policy_resolve(model_.get(), R"({"policy": "sep-stream"})", &text));
  const Json policy = parse_json(text, "policy");
  sepllm_free(text);
  EXPECT_EQ(policy.at("policy"), "sep-stream");
  EXPECT_EQ(policy.at("positions"), "cache");
  EXPECT_EQ(policy.at("capacity"), 800);

  ok(sepllm_policy_resolve(nullptr, R"({"policy": "sep", "window": 9})", &text));
  const Json alone = parse_json(text, "policy");
  sepllm_free(text);
  EXPECT_EQ(alone.at("window"), 9);
  EXPECT_EQ(alone.at("init"), 4);
  refused(sepllm_policy_resolve(nullptr, R"({"policy": "full", "window": 9})", &text),
          SEPLLM_INVALID_ARGUMENT, "window");
}

TEST_F(CApiModel, TokenizersThereAndBack) {
  sepllm_tokenizer* t = nullptr;
  ok(sepllm_tokenizer_load(folder_.path().c_str(), &t));
  const Handle<sepllm_tokenizer> tokenizer(t);
  const std::string text("a\0b, ä", 7);
  int32_t* ids = nullptr;
  size_t n = 0, n_bytes = 0;
  ok(sepllm_tokenizer_encode(t, text.data(), text.size(), 0, &ids, &n));
  char* back = nullptr;
  ok(sepllm_tokenizer_decode(t, ids, n, 0, &back, &n_bytes));
  EXPECT_EQ(std::string(back, n_bytes), text);
  EXPECT_EQ(back[n_bytes], '\0');
  sepllm_free(back);
  sepllm_free(ids);
  ok(sepllm_tokenizer_encode(t, "<|end|>", 7, 0, &ids, &n));
  EXPECT_EQ(n, 1U);
  sepllm_free(ids);
  ok(sepllm_tokenizer_encode(t, "<|end|>", 7, SEPLLM_PLAIN_TEXT, &ids, &n));
  EXPECT_EQ(n, 7U);
  sepllm_free(ids);
  ok(sepllm_tokenizer_encode(t, nullptr, 0, 0, &ids, &n));
  EXPECT_EQ(ids, nullptr);
  refused(sepllm_tokenizer_encode(t, "\xff", 1, 0, &ids, &n), SEPLLM_INVALID_ARGUMENT, "UTF-8");
  refused(sepllm_tokenizer_encode(t, "a", 1, 64, &ids, &n), SEPLLM_INVALID_ARGUMENT, "flags");
  EXPECT_EQ(sepllm_tokenizer_vocab_size(t), kByteTokenizerVocab);
}

TEST_F(CApiModel, SeparatorsByTheirRules) {
  sepllm_tokenizer* t = nullptr;
  ok(sepllm_model_tokenizer(model_.get(), &t));
  const Handle<sepllm_tokenizer> tokenizer(t);
  const auto separators = [&](const char* rule) {
    int32_t* ids = nullptr;
    size_t n = 0;
    ok(sepllm_tokenizer_separators(t, rule, 0, 0, &ids, &n));
    const std::vector<int32_t> found(ids, ids + n);
    sepllm_free(ids);
    return found;
  };
  EXPECT_EQ(separators("ids:9,3"), (std::vector<int32_t>{3, 9}));
  EXPECT_EQ(separators("strings:.,"), (std::vector<int32_t>{',', '.'}));
  EXPECT_EQ(separators(nullptr), separators("text"));
  EXPECT_GT(separators("text").size(), 5U);
  int32_t* ids = nullptr;
  size_t n = 0;
  refused(sepllm_tokenizer_separators(t, "nonsense", 0, 0, &ids, &n), SEPLLM_INVALID_ARGUMENT, "nonsense");
  refused(sepllm_tokenizer_separators(t, "text", -1, 0, &ids, &n), SEPLLM_INVALID_ARGUMENT, "vocab_size");
}

TEST(CApi, ErrorsBelongToTheirThread) {
  sepllm_runtime* runtime = nullptr;
  refused(sepllm_runtime_new(5000, &runtime), SEPLLM_INVALID_ARGUMENT, "1024");
  std::thread([] {
    EXPECT_STREQ(sepllm_last_error(), "");
    sepllm_model* model = nullptr;
    refused(sepllm_model_load("/nowhere", nullptr, &model), SEPLLM_NOT_FOUND, "/nowhere");
  }).join();
  EXPECT_NE(std::string(sepllm_last_error()).find("1024"), std::string::npos);
  EXPECT_STREQ(sepllm_status_name(SEPLLM_OK), "ok");
  EXPECT_STREQ(sepllm_status_name(SEPLLM_INTERNAL), "internal error");
  EXPECT_STREQ(sepllm_status_name(static_cast<sepllm_status>(99)), "unknown status");
  EXPECT_STREQ(sepllm_version(), SEPLLM_VERSION);
}

TEST(CApi, TheLogGoesToTheCallersFunction) {
  std::vector<std::string> lines;
  ok(sepllm_set_log(
      [](sepllm_log_level level, const char* message, void* user) {
        static_cast<std::vector<std::string>*>(user)->push_back(std::to_string(level) + message);
      },
      &lines));
  log_warning("something");
  ok(sepllm_set_log(nullptr, nullptr));
  log_warning("unheard");
  EXPECT_EQ(lines, std::vector<std::string>{"2something"});
}

}  // namespace
}  // namespace sepllm::test
