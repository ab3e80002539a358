#include "server/openai/answer_form.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "server/openai/api_error.h"
#include "server/openai/text_offsets.h"
#include "server/openai/usage.h"
#include "tests/support/fake_tokenizer.h"

namespace sepllm::server {
namespace {

// 1 and 2 are the halves of "é", 3 is the second half of another character.
const test::FakeTokenizer& tokenizer() {
  static const test::FakeTokenizer kTokenizer({"a", "\xC3", "\xA9", "\xA8", " b"});
  return kTokenizer;
}

TEST(AnswerForm, LogprobsOfACompletion) {
  const std::vector<ScoredToken> tokens = {
      {.score = {.id = 0}, .scored = false},
      {.score = {1, -0.5F, {{1, -0.5F}, {4, -1.0F}}}, .text_offset = 1},
      {.score = {2, -2.0F, {{3, -0.25F}}}, .text_offset = 1},
      {.score = {3, -0.25F, {{3, -0.25F}, {2, -2.0F}}}, .text_offset = 2}};
  const Json json = completion_form().logprobs(&tokenizer(), tokens);
  EXPECT_EQ(json["tokens"], Json::array({"a", "\xEF\xBF\xBD", "\xEF\xBF\xBD", "\xEF\xBF\xBD"}));
  EXPECT_EQ(json["token_logprobs"], Json::array({nullptr, -0.5, -2.0, -0.25}));
  EXPECT_EQ(json["text_offset"], Json::array({0, 1, 1, 2}));
  EXPECT_TRUE(json["top_logprobs"][0].is_null());
  // Of tokens with the same text the larger value counts: lm-eval takes the largest for the most likely
  // token.
  EXPECT_EQ(json_text(json["top_logprobs"][1]), "{\"\xEF\xBF\xBD\":-0.5,\" b\":-1.0}");
  EXPECT_EQ(json_text(json["top_logprobs"][2]), "{\"\xEF\xBF\xBD\":-0.25}");
  EXPECT_EQ(json_text(json["top_logprobs"][3]), "{\"\xEF\xBF\xBD\":-0.25}");
}

TEST(AnswerForm, LogprobsOfAChatHaveTheBytes) {
  const std::vector<ScoredToken> tokens = {{.score = {1, -0.5F, {{4, -0.25F}}}}};
  const Json one = chat_form().logprobs(&tokenizer(), tokens)["content"][0];
  EXPECT_EQ(one["token"], "\xEF\xBF\xBD");
  EXPECT_EQ(one["bytes"], Json::array({0xC3}));
  EXPECT_EQ(one["top_logprobs"][0]["token"], " b");
  EXPECT_EQ(one["top_logprobs"][0]["logprob"], -0.25);
  EXPECT_EQ(chat_form().logprobs(nullptr, tokens)["content"][0]["token"], "token_id:1");
}

TEST(AnswerForm, Chunks) {
  const AnswerFrame frame{.id = "x", .created = 5, .model = "m", .form = &chat_form()};
  const Json json = frame.json(true, Json::array({chat_form().opening(0)}), true);
  EXPECT_EQ(json["object"], "chat.completion.chunk");
  EXPECT_TRUE(json["usage"].is_null() && json.contains("usage"));
  EXPECT_FALSE(frame.json(true, {}).contains("usage"));
  EXPECT_EQ(json_text(json["choices"][0]["delta"]), R"({"role":"assistant","content":""})");
  EXPECT_EQ(json_text(chat_form().piece(2, "t", nullptr)),
            R"({"index":2,"delta":{"content":"t"},"logprobs":null,"finish_reason":null})");
  EXPECT_EQ(json_text(chat_form().ending(2, "stop")),
            R"({"index":2,"delta":{},"logprobs":null,"finish_reason":"stop"})");
  EXPECT_TRUE(completion_form().opening(0).is_null());
  EXPECT_EQ(json_text(completion_form().ending(1, "length")),
            R"({"index":1,"text":"","logprobs":null,"finish_reason":"length"})");
  EXPECT_EQ(sse_event({{"a", "x\ny"}}), "data: {\"a\":\"x\\ny\"}\n\n");
}

TEST(AnswerForm, OffsetsCountCharacters) {
  TextOffsets offsets(&tokenizer(), {}, false);
  std::vector<int64_t> at;
  for (const int32_t id : {0, 1, 2, 4, 0}) at.push_back(offsets.next(id));
  EXPECT_EQ(at, (std::vector<int64_t>{0, 1, 1, 2, 4}));
}

TEST(AnswerForm, ErrorsAndCosts) {
  ApiError busy = queue_full();
  const HttpResponse response = error_response(busy);
  EXPECT_EQ(response.status, 429);
  EXPECT_EQ(response.headers[0].first, "Retry-After");
  const ApiError error(400, "no", "n", "invalid_value");
  EXPECT_EQ(
      json_text(error_json(error)),
      R"({"error":{"message":"no","type":"invalid_request_error","param":"n","code":"invalid_value"}})");
  const Error engine(ErrorCode::kInvalidArgument, "bad", {.place = option_name("window")});
  EXPECT_EQ(as_api_error(engine).param, "sepllm.window");
  const Error file(ErrorCode::kBadFile, "bad: a/b",
                   {.file = "some/folder/template.jinja", .place = "line 3"});
  EXPECT_EQ(as_api_error(file).message, "template.jinja: line 3: bad: a/b");
  const Usage usage{.prompt_tokens = 10,
                    .cached_tokens = 4,
                    .new_tokens = 5,
                    .prompt_seconds = 2.0,
                    .decode_seconds = 0.5,
                    .kv_bytes = 100,
                    .kv_full_bytes = 400,
                    .queries = 10,
                    .keys = 30,
                    .full_keys = 120};
  const PolicySettings policy;
  const Json json = usage_json(usage, policy);
  EXPECT_EQ(json["total_tokens"], 15);
  EXPECT_EQ(json["prompt_tokens_details"]["cached_tokens"], 4);
  EXPECT_EQ(json["sepllm"]["kv_mean_keys"], 3.0);
  EXPECT_EQ(json["sepllm"]["kv_full_share"], 0.25);
  const Json timings = timings_json(usage);
  EXPECT_EQ(timings["prompt_n"], 6);
  EXPECT_EQ(timings["cache_n"], 4);
  EXPECT_EQ(timings["prompt_per_second"], 3.0);
  EXPECT_EQ(timings["predicted_per_token_ms"], 100.0);
  EXPECT_EQ(timings_json({})["predicted_per_second"], 0.0);
}

}  // namespace
}  // namespace sepllm::server
