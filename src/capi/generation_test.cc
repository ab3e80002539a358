// Generation through the C functions, compared with the engine's.
#include <sepllm/sepllm.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "capi/capi_test_support.h"
#include "engine/generator.h"

namespace sepllm::test {
namespace {

constexpr const char* kOptions =
    R"({"n": 30, "temp": 1.0, "seed": 5, "ignore-eos": true, "repeat-penalty": 1.2})";

// What the engine generates after the first n tokens.
GenerateResult direct(const std::string& folder, std::span<const int32_t> prompt) {
  const Model model = load_model(folder, "");
  ThreadPool pool(1);
  Arena arena;
  Session session(model, {}, Context{pool, arena});
  SamplingSettings sampling;
  sampling.temperature = 1.0;
  sampling.seed = 5;
  sampling.repeat_penalty = 1.2;
  Sampler sampler(sampling, model.config().vocab_size);
  GenerateRequest request;
  request.prompt.assign(prompt.begin(), prompt.end());
  request.max_new_tokens = 30;
  request.ignore_eos = true;
  return generate(session, sampler, request, {});
}

int append(const char* text, size_t n, void* user) {
  static_cast<std::string*>(user)->append(text, n);
  return 0;
}

TEST_F(CApiModel, GeneratesWhatTheEngineGenerates) {
  const GenerateResult expected = direct(folder_.path(), std::span(ids_).first(50));
  const auto check = [&](sepllm_generation* g, const std::string& text) {
    sepllm_generation_result r{};
    ok(sepllm_generation_get(g, &r));
    EXPECT_EQ(std::vector<int32_t>(r.ids, r.ids + r.n_ids), expected.ids);
    EXPECT_EQ(std::string(r.text, r.n_bytes), expected.text);
    EXPECT_EQ(text, expected.text);
    EXPECT_EQ(r.finish, SEPLLM_FINISH_LENGTH);
  };
  // Everything in one call.
  std::string text;
  sepllm_generation* g = nullptr;
  const auto a = session();
  ok(sepllm_session_generate(a.get(), ids_.data(), 50, kOptions, append, &text, &g));
  check(Handle<sepllm_generation>(g).get(), text);
  EXPECT_EQ(sepllm_session_length(a.get()), 50 + 29);
  // Token by token, after a prompt that was fed before, or fed partly.
  for (const size_t before : {size_t{50}, size_t{20}}) {
    const auto b = session();
    fed(b, 0, before);
    ok(sepllm_generation_new(b.get(), ids_.data() + before, 50 - before, kOptions, &g));
    const Handle<sepllm_generation> generation(g);
    text.clear();
    int more = 1;
    while (more != 0) {
      const char* piece = nullptr;
      size_t n = 0;
      ok(sepllm_generation_next(g, &piece, &n, &more));
      text.append(piece, n);
    }
    check(g, text);
  }
}

TEST_F(CApiModel, AFunctionOfTheCallerEndsTheText) {
  const auto s = session();
  int n_asked = 0;
  const auto stop_at_third = [](const char*, size_t, void* user) {
    return ++*static_cast<int*>(user) == 3 ? 1 : 0;
  };
  sepllm_generation* g = nullptr;
  ok(sepllm_session_generate(s.get(), ids_.data(), 50, kOptions, stop_at_third, &n_asked, &g));
  const Handle<sepllm_generation> generation(g);
  sepllm_generation_result r{};
  ok(sepllm_generation_get(g, &r));
  EXPECT_EQ(r.finish, SEPLLM_FINISH_CANCELLED);
  EXPECT_EQ(r.n_ids, 3U);
  EXPECT_EQ(sepllm_session_length(s.get()), 52);
  fed(s, 60, 10);  // and the session continues
}

TEST_F(CApiModel, StopStringsAndTokensEndTheText) {
  const GenerateResult whole = direct(folder_.path(), std::span(ids_).first(50));
  const auto s = session();
  sepllm_generation* g = nullptr;
  const std::string options =
      R"({"n": 30, "temp": 1.0, "seed": 5, "repeat-penalty": 1.2, "ignore-eos": false, "stop-ids": [)" +
      std::to_string(whole.ids[4]) + "]}";
  ok(sepllm_session_generate(s.get(), ids_.data(), 50, options.c_str(), nullptr, nullptr, &g));
  const Handle<sepllm_generation> generation(g);
  sepllm_generation_result r{};
  ok(sepllm_generation_get(g, &r));
  EXPECT_EQ(r.finish, SEPLLM_FINISH_STOP);
  EXPECT_LE(r.n_ids, 4U);
}

TEST_F(CApiModel, ASessionThatWasChangedIsNoticed) {
  const auto s = session();
  sepllm_generation* g = nullptr;
  refused(sepllm_generation_new(s.get(), nullptr, 0, nullptr, &g), SEPLLM_INVALID_STATE, "no logits");
  refused(sepllm_generation_new(s.get(), ids_.data(), 9, R"({"top-k": -1})", &g), SEPLLM_INVALID_ARGUMENT,
          "top-k");
  refused(sepllm_generation_new(s.get(), ids_.data(), 9, R"({"stop-ids": ["x"]})", &g),
          SEPLLM_INVALID_ARGUMENT, "stop-ids");
  ok(sepllm_generation_new(s.get(), ids_.data(), 9, kOptions, &g));
  const Handle<sepllm_generation> generation(g);
  const char* text = nullptr;
  int more = 0;
  ok(sepllm_generation_next(g, &text, nullptr, &more));
  fed(s, 0, 3);
  refused(sepllm_generation_next(g, &text, nullptr, &more), SEPLLM_INVALID_STATE, "changed");
}

// Sampling by hand gives what greedy generation gives.
TEST_F(CApiModel, SamplesFromTheLogits) {
  const auto a = session(), b = session();
  sepllm_generation* g = nullptr;
  ok(sepllm_session_generate(a.get(), ids_.data(), 50, R"({"n": 8, "ignore-eos": true})", nullptr, nullptr,
                             &g));
  const Handle<sepllm_generation> generation(g);
  sepllm_generation_result r{};
  ok(sepllm_generation_get(g, &r));
  fed(b, 0, 50);
  for (size_t i = 0; i < r.n_ids; ++i) {
    int32_t id = -1;
    ok(sepllm_session_sample(b.get(), &id));
    EXPECT_EQ(id, r.ids[i]);
    ok(sepllm_session_feed(b.get(), &id, 1));
  }
  refused(sepllm_session_set_sampling(b.get(), R"({"tmp": 1})"), SEPLLM_INVALID_ARGUMENT, "temp");
}

}  // namespace
}  // namespace sepllm::test
