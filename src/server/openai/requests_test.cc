#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "engine/model.h"
#include "model/random_model.h"
#include "server/openai/api_error.h"
#include "server/openai/chat_request.h"
#include "server/openai/completion_request.h"
#include "server/openai/limits.h"
#include "tests/support/support.h"

namespace sepllm::server {
namespace {

constexpr int64_t kVocab = kByteTokenizerVocab;

ModelConfig tiny_config() {
  ModelConfig config;
  config.n_layers = 2;
  return config;
}

// "STATUS PARAM CODE" of the ApiError that `call` throws.
template <typename Call>
std::string refusal(const Call& call) {
  try {
    call();
  } catch (const ApiError& error) {
    EXPECT_NE(error.message, "");
    return std::to_string(error.status) + " " + error.param + " " + error.code;
  }
  return "taken";
}

class RequestsTest : public ::testing::Test {
 protected:
  RequestSettings chat(const std::string& json) const {
    const Json body = parse_body(json);
    return read_chat_settings(Fields(body), models_, defaults_, kVocab);
  }
  CompletionRequest completion(const std::string& json) const {
    const Json body = parse_body(json);
    return read_completion_settings(Fields(body), models_, defaults_, kVocab);
  }
  std::string chat_refusal(const std::string& json) const {
    return refusal([&] { chat(json); });
  }

  const ModelConfig config_ = tiny_config();
  const ServedModels models_{
      config_, {{"big", {}}, parse_alias("fast=sep-stream,seps=16,window=32,capacity=99", {}, config_)}};
  const SamplingSettings defaults_{.temperature = 0.7, .top_k = 5};
};

TEST_F(RequestsTest, WhatARequestLeavesOpenHasTheDefaults) {
  const RequestSettings s = chat("{}");
  EXPECT_EQ(s.model->name, "big");
  EXPECT_EQ(s.policy.policy.kind, PolicyKind::kFull);
  EXPECT_EQ(std::pair(s.sampling.temperature, s.sampling.top_k), std::pair(0.7, int64_t{5}));
  EXPECT_EQ(s.n, 1);
  EXPECT_EQ(s.n_top, -1);
  EXPECT_FALSE(s.max_tokens || s.stream || s.include_usage);
  EXPECT_NE(s.sampling.seed, chat("{}").sampling.seed);
  EXPECT_EQ(completion("{}").settings.max_tokens, 16);
  // null is as good as absent.
  EXPECT_EQ(chat(R"({"temperature":null,"stop":null,"n":null,"logit_bias":null})").sampling.temperature, 0.7);
}

TEST_F(RequestsTest, SamplingParameters) {
  const RequestSettings s = chat(R"({"temperature":0.5,"top_p":0.9,"min_p":0.1,"top_k":-1,"seed":7,"n":3,
      "presence_penalty":1,"frequency_penalty":-0.5,"repetition_penalty":1.5,"logit_bias":{"5":-100,"7":2.5},
      "stop":["a","","b"],"max_tokens":3,"max_completion_tokens":9,"logprobs":true,"top_logprobs":4,
      "stream":true,"stream_options":{"include_usage":true,"include_obfuscation":false}})");
  EXPECT_EQ(s.sampling.temperature, 0.5);
  EXPECT_EQ(s.sampling.top_p, 0.9);
  EXPECT_EQ(s.sampling.min_p, 0.1);
  EXPECT_EQ(s.sampling.top_k, 0);
  EXPECT_EQ(s.sampling.seed, 7);
  EXPECT_EQ(s.sampling.presence_penalty, 1.0);
  EXPECT_EQ(s.sampling.frequency_penalty, -0.5);
  EXPECT_EQ(s.sampling.repeat_penalty, 1.5);
  EXPECT_EQ(s.sampling.repeat_last_n, SamplingSettings::kWholeContext);
  EXPECT_EQ(s.sampling.logit_bias, (std::vector<std::pair<int32_t, double>>{{5, -100.0}, {7, 2.5}}));
  EXPECT_EQ(s.stops, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(s.max_tokens, 9);
  EXPECT_EQ(s.n_top, 4);
  EXPECT_TRUE(s.stream && s.include_usage);
  EXPECT_EQ(chat(R"({"stop":"x","repeat_penalty":1.2,"seed":-3})").stops, std::vector<std::string>{"x"});
  EXPECT_GE(chat(R"({"seed":-3})").sampling.seed, 0);
  EXPECT_EQ(completion(R"({"logprobs":3})").settings.n_top, 3);
  EXPECT_EQ(completion(R"({"logprobs":0})").settings.n_top, 0);
  EXPECT_EQ(completion(R"({"logprobs":null})").settings.n_top, -1);
}

TEST_F(RequestsTest, WhatDoesNotChangeTheAnswerIsIgnored) {
  chat(R"({"user":"u","store":true,"metadata":{"a":"b"},"service_tier":"auto","parallel_tool_calls":true,
      "reasoning_effort":"low","verbosity":"low","prediction":{"type":"content","content":"x"},"prompt_cache_key":"k",
      "tools":[{"type":"function"}],"tool_choice":"auto","response_format":{"type":"text"},"modalities":["text"],
      "function_call":"none","best_of":1,"min_tokens":0,"typical_p":1.0,"mirostat":0,"made_up_parameter":[1,2]})");
}

TEST_F(RequestsTest, WhatWouldChangeItAndDoesNotExistIsRefused) {
  for (const auto& [json, param] : std::vector<std::pair<std::string, std::string>>{
           {R"({"response_format":{"type":"json_schema"}})", "response_format"},
           {R"({"response_format":{"type":"json_object"}})", "response_format"},
           {R"({"tool_choice":"required"})", "tool_choice"},
           {R"({"tool_choice":{"type":"function"}})", "tool_choice"},
           {R"({"function_call":{"name":"f"}})", "function_call"},
           {R"({"modalities":["text","audio"]})", "modalities"},
           {R"({"grammar":"root ::= x"})", "grammar"},
           {R"({"guided_json":{"a":1}})", "guided_json"},
           {R"({"min_tokens":3})", "min_tokens"},
           {R"({"use_beam_search":true})", "use_beam_search"},
           {R"({"best_of":3})", "best_of"}}) {
    EXPECT_EQ(chat_refusal(json), "400 " + param + " unsupported_parameter") << json;
  }
  EXPECT_EQ(refusal([&] { completion(R"({"suffix":"x"})"); }), "400 suffix unsupported_parameter");
  completion(R"({"suffix":""})");
}

TEST_F(RequestsTest, WrongValuesAreNamed) {
  for (const auto& [json, param] : std::vector<std::pair<std::string, std::string>>{
           {R"({"temperature":-0.1})", "temperature"},
           {R"({"temperature":"hot"})", "temperature"},
           {R"({"temperature":1e9})", "temperature"},
           {R"({"top_p":1.5})", "top_p"},
           {R"({"n":0})", "n"},
           {R"({"n":99999999999})", "n"},
           {R"({"n":1.5})", "n"},
           {R"({"n":true})", "n"},
           {R"({"seed":1e40})", "seed"},
           {R"({"max_tokens":-1})", "max_tokens"},
           {R"({"max_tokens":0})", "max_tokens"},
           {R"({"max_completion_tokens":-5})", "max_completion_tokens"},
           {R"({"stop":5})", "stop"},
           {R"({"stop":[5]})", "stop"},
           {R"({"presence_penalty":3})", "presence_penalty"},
           {R"({"logit_bias":[1]})", "logit_bias"},
           {R"({"logit_bias":{"258":1}})", "logit_bias"},
           {R"({"logit_bias":{"x":1}})", "logit_bias"},
           {R"({"logit_bias":{"1":101}})", "logit_bias"},
           {R"({"logprobs":3})", "logprobs"},
           {R"({"top_logprobs":3})", "top_logprobs"},
           {R"({"logprobs":true,"top_logprobs":21})", "top_logprobs"},
           {R"({"stream":"yes"})", "stream"}}) {
    EXPECT_EQ(chat_refusal(json), "400 " + param + " invalid_value") << json;
  }
  EXPECT_EQ(chat_refusal(R"({"stream_options":5})"), "400 stream_options invalid_type");
  EXPECT_EQ(chat_refusal("{\"stop\":\"" + std::string(kMaxStopBytes + 1, 'x') + "\"}"),
            "400 stop invalid_value");
  EXPECT_EQ(refusal([&] { completion(R"({"max_tokens":0})"); }), "400 max_tokens invalid_value");
  completion(R"({"max_tokens":0,"echo":true})");
}

TEST_F(RequestsTest, BodiesThatAreNoObject) {
  for (const char* body : {"", "x", "[]", "3", "{\"a\":", "{\"a\":NaN}", "{\"a\":\"\xFF\"}", "{} {}"})
    EXPECT_TRUE(refusal([&] { parse_body(body); }).starts_with("400")) << body;
  EXPECT_TRUE(refusal([&] { parse_body(std::string(100000, '[')); }).starts_with("400"));
}

TEST_F(RequestsTest, ModelsAliasesAndPolicies) {
  const RequestSettings fast = chat(R"({"model":"fast"})");
  EXPECT_EQ(fast.policy.policy.kind, PolicyKind::kSepStream);
  EXPECT_EQ(fast.policy.policy.seps, 16);
  EXPECT_EQ(fast.policy.policy.positions, PositionMode::kCache);
  EXPECT_EQ(chat_refusal(R"({"model":"other"})"), "404 model model_not_found");
  EXPECT_EQ(chat(R"({"model":""})").model->name, "big");
  // Options of a request change the policy of the name.
  const Policy more = chat(R"({"model":"fast","sepllm":{"seps":20}})").policy.policy;
  EXPECT_EQ(std::pair(more.seps, more.window), std::pair(int64_t{20}, int64_t{32}));
  EXPECT_EQ(chat(R"({"sepllm":{"policy":"sink","window":"8"}})").policy.policy.window, 8);
  EXPECT_EQ(chat_refusal(R"({"sepllm":{"policy":"x"}})"), "400 sepllm ");
  EXPECT_EQ(chat_refusal(R"({"sepllm":{"policy":"sink-stream","window":8}})"), "400 sepllm.window ");
  EXPECT_EQ(chat_refusal(R"({"sepllm":{"prefill-chunk":1000000}})"), "400 sepllm.prefill-chunk ");
  EXPECT_EQ(chat_refusal(R"({"sepllm":[]})"), "400 sepllm invalid_type");
  EXPECT_EQ(chat_refusal(R"({"sepllm":{"policy":"sink","layer-window":"7=3"}})").substr(0, 3), "400");
  for (const char* bad : {"", "x", "=full", "x=", "x=full,,", "x=full,window", "x=nope", "x=sep,windov=3"})
    EXPECT_THROW(parse_alias(bad, {}, config_), Error) << bad;
}

TEST_F(RequestsTest, MessagesAreReadInEveryForm) {
  const Json body = parse_body(R"({"messages":[{"role":"developer","content":"d"},
      {"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},
      {"role":"assistant","content":null,"tool_calls":[]},{"role":"tool","content":"t","tool_call_id":"1"}]})");
  const std::vector<ChatMessage> messages = read_messages(Fields(body));
  ASSERT_EQ(messages.size(), 4U);
  EXPECT_EQ(messages[0].role, ChatMessage::Role::kSystem);
  EXPECT_EQ(messages[1].content, "ab");
  EXPECT_EQ(messages[2].content, "");
  EXPECT_EQ(messages[3].role, ChatMessage::Role::kTool);
  for (const char* json :
       {"{}", R"({"messages":[]})", R"({"messages":{}})", R"({"messages":["x"]})",
        R"({"messages":[{"role":"user"}]})", R"({"messages":[{"role":"x","content":"a"}]})",
        R"({"messages":[{"content":"a"}]})",
        R"({"messages":[{"role":"user","content":[{"type":"image_url"}]}]})",
        R"({"messages":[{"role":"user","content":7}]})"}) {
    const Json bad = parse_body(json);
    EXPECT_TRUE(refusal([&] { read_messages(Fields(bad)); }).starts_with("400 messages")) << json;
  }
}

class PromptsTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new test::TemporaryFolder;
    write_random_model(folder_->file("model"), {.hidden_size = 16, .n_layers = 1, .n_heads = 2});
    model_ = new Model(load_model(folder_->file("model"), ""));
  }
  static void TearDownTestSuite() {
    delete model_;
    delete folder_;
  }
  static std::vector<CompletionPrompt> prompts(const std::string& json) {
    const Json body = parse_body("{\"prompt\":" + json + "}");
    return read_prompts(Fields(body), *model_, true, 3);
  }
  static inline test::TemporaryFolder* folder_ = nullptr;
  static inline Model* model_ = nullptr;
};

TEST_F(PromptsTest, TextsAndIdsAloneAndInLists) {
  EXPECT_EQ(prompts("\"ab\"")[0].ids, (std::vector<int32_t>{'a', 'b'}));
  EXPECT_EQ(prompts(R"(["a","b"])").size(), 2U);
  EXPECT_EQ(prompts("[97,98]")[0].text, "ab");
  EXPECT_EQ(prompts("[[97],[98,99]]")[1].ids, (std::vector<int32_t>{98, 99}));
  const CompletionPrompt empty = prompts("\"\"")[0];
  EXPECT_EQ(empty.ids, std::vector<int32_t>{kByteTokenizerBos});
  EXPECT_TRUE(empty.begins_with_added_bos);
  for (const char* bad : {"null", "5", "{}", "[]", "[[]]", "[\"a\",1]", "[1,\"a\"]", "[[1],\"a\"]",
                          "[[\"a\"]]", "[258]", "[-1]", "[1.5]", "[null]", "[\"a\",\"b\",\"c\",\"d\"]"})
    EXPECT_TRUE(refusal([&] { prompts(bad); }).starts_with("400 prompt")) << bad;
}

TEST_F(PromptsTest, AToolsResultThatTheTemplateLeavesOutIsRefused) {
  const Tokenizer& tokenizer = *model_->tokenizer;
  using Role = ChatMessage::Role;
  const std::vector<ChatMessage> talk = {{Role::kUser, "hi"}, {Role::kTool, "result"}};
  EXPECT_EQ(refusal([&] { write_prompt(ChatTemplate::by_name(tokenizer, "plain"), tokenizer, talk); }),
            "400 messages ");
  const auto with = [&](const std::string& text) {
    return ChatTemplate::by_name(tokenizer, folder_->write("t.jinja", text));
  };
  const std::string all = "{% for m in messages %}{{ m.role ~ ':' ~ m.content }};{% endfor %}";
  EXPECT_EQ(write_prompt(with(all), tokenizer, talk).bytes(), "user:hi;tool:result;");
  const auto users = with("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}");
  EXPECT_EQ(refusal([&] { write_prompt(users, tokenizer, talk); }), "400 messages unsupported_content");
  const auto raises = with("{{ raise_exception('no') }}");
  EXPECT_EQ(refusal([&] { write_prompt(raises, tokenizer, {{Role::kUser, "hi"}}); }), "400 messages ");
}

}  // namespace
}  // namespace sepllm::server
