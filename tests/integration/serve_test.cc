// The real server over the loopback: endpoints, streams, errors, clients that leave, and the orderly end.
#include <gtest/gtest.h>

#include <csignal>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "model/random_model.h"
#include "tests/support/cli.h"
#include "tests/support/http_client.h"
#include "tests/support/server_process.h"

namespace {

using sepllm::Json;
using sepllm::parse_json;
using sepllm::test::HttpAnswer;
using sepllm::test::HttpClient;
using sepllm::test::run_json;
using sepllm::test::ServerProcess;
using sepllm::test::TemporaryFolder;

// The data of the events of a stream; the last one, [DONE], is left out and must be there.
std::vector<Json> events_of(const HttpAnswer& answer) {
  EXPECT_TRUE(answer.complete);
  EXPECT_EQ(answer.headers.at("content-type"), "text/event-stream; charset=utf-8");
  std::vector<Json> events;
  const std::string done = "data: [DONE]\n\n";
  EXPECT_TRUE(answer.body.ends_with(done)) << answer.body;
  size_t at = 0;
  while (at + done.size() < answer.body.size()) {
    const size_t end = answer.body.find("\n\n", at);
    EXPECT_EQ(answer.body.substr(at, 6), "data: ");
    events.push_back(parse_json(answer.body.substr(at + 6, end - at - 6), "an event"));
    at = end + 2;
  }
  return events;
}

// A tiny model with random weights and a byte tokenizer, whose texts are nonsense that never ends by itself.
class ServeTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    sepllm::write_random_model(model(), {.hidden_size = 32, .n_layers = 2, .max_positions = 100000});
    const std::string chat =
        folder_->write("chat.jinja",
                       "{% for m in messages %}{{ m.role ~ ':' ~ m.content ~ ';' }}{% endfor %}"
                       "{% if add_generation_prompt %}assistant:{% endif %}");
    server_ =
        new ServerProcess(model(), {"--alias", "fast=sep-stream,seps=16,window=32,capacity=99", "--parallel",
                                    "4", "--max-queue", "8", "--served-name", "tiny", "--chat-format", chat});
  }
  static void TearDownTestSuite() {
    delete server_;
    delete folder_;
  }
  static std::string model() { return folder_->file("model"); }
  static HttpAnswer complete(Json body) {
    if (!body.contains("temperature")) body["temperature"] = 0;
    return server_->post("/v1/completions", body);
  }
  static std::string text_of(const Json& body) { return complete(body).json()["choices"][0]["text"]; }
  static int64_t n_running(const ServerProcess& server) {
    int64_t n = 0;
    for (const Json& slot : server.get("/slots").json()) n += slot["is_processing"].get<bool>() ? 1 : 0;
    return n;
  }

  static inline TemporaryFolder* folder_ = nullptr;
  static inline ServerProcess* server_ = nullptr;
};

const Json kEndless = {{"prompt", "abc"}, {"max_tokens", 90000}, {"temperature", 0}, {"ignore_eos", true}};

TEST_F(ServeTest, ACompletionIsTheTextOfGenerate) {
  const Json own = run_json({"generate", "--model", model(), "--prompt", "Hello there", "-n", "12"});
  const Json json = complete({{"prompt", "Hello there"}, {"max_tokens", 12}}).json();
  EXPECT_EQ(json["choices"][0]["text"], own["text"]);
  EXPECT_EQ(json["object"], "text_completion");
  EXPECT_EQ(json["model"], "tiny");
  EXPECT_EQ(json["usage"]["prompt_tokens"], 11);
  EXPECT_EQ(json["usage"]["total_tokens"], json["usage"]["completion_tokens"].get<int>() + 11);
  EXPECT_GT(json["usage"]["sepllm"]["kv_bytes"], 0);
  EXPECT_EQ(json["choices"][0]["finish_reason"], own["finish_reason"]);
}

TEST_F(ServeTest, PromptsChoicesEchoAndScores) {
  const Json json =
      complete({{"prompt", {{72, 105}, {72, 111, 33}}}, {"max_tokens", 2}, {"echo", true}, {"logprobs", 2}})
          .json();
  ASSERT_EQ(json["choices"].size(), 2U);
  const Json& second = json["choices"][1];
  EXPECT_EQ(second["index"], 1);
  const Json& scores = second["logprobs"];
  ASSERT_EQ(scores["tokens"].size(), 5U);
  EXPECT_TRUE(scores["token_logprobs"][0].is_null());
  EXPECT_EQ(scores["tokens"][1], "o");
  EXPECT_EQ(scores["text_offset"][2], 2);
  EXPECT_TRUE(second["text"].get<std::string>().starts_with("Ho!"));
  // The chosen token of a greedy text is the most likely one, with the same value.
  double best = -1e9;
  for (const auto& [text, value] : scores["top_logprobs"][4].items())
    best = std::max(best, value.get<double>());
  EXPECT_EQ(scores["token_logprobs"][4], best);
  const Json none = complete({{"prompt", "Hi"}, {"max_tokens", 0}, {"echo", true}, {"logprobs", 0}}).json();
  EXPECT_EQ(none["choices"][0]["text"], "Hi");
  EXPECT_EQ(none["usage"]["completion_tokens"], 0);
  // Choices with a seed are the same every time, and differ.
  const Json wanted = {{"prompt", "x"}, {"n", 3}, {"max_tokens", 8}, {"temperature", 1}, {"seed", 5}};
  const Json a = complete(wanted).json(), b = complete(wanted).json();
  ASSERT_EQ(a["choices"].size(), 3U);
  EXPECT_EQ(a["choices"], b["choices"]);
  EXPECT_NE(a["choices"][0]["text"], a["choices"][1]["text"]);
}

TEST_F(ServeTest, AStreamHasTheSameTextAndTheRightChunks) {
  const Json wanted = {{"prompt", "Once"}, {"max_tokens", 9}, {"temperature", 0}};
  Json streamed = wanted;
  streamed["stream"] = true;
  std::string text;
  std::vector<Json> events = events_of(complete(streamed));
  for (const Json& event : events) {
    EXPECT_EQ(event["object"], "text_completion");
    EXPECT_FALSE(event.contains("usage"));
    text += event["choices"][0]["text"];
  }
  EXPECT_EQ(text, text_of(wanted));
  EXPECT_EQ(events.back()["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(events.back()["timings"]["predicted_n"], 9);
  streamed["stream_options"] = {{"include_usage", true}};
  events = events_of(complete(streamed));
  EXPECT_TRUE(events[0]["usage"].is_null());
  EXPECT_EQ(events.back()["choices"], Json::array());
  EXPECT_EQ(events.back()["usage"]["completion_tokens"], 9);
}

TEST_F(ServeTest, ChatInBothForms) {
  Json wanted = {{"messages", {{{"role", "user"}, {"content", "Hello"}}}},
                 {"max_completion_tokens", 6},
                 {"temperature", 0},
                 {"logprobs", true},
                 {"top_logprobs", 1}};
  const Json whole = server_->post("/chat/completions", wanted).json();  // with and without /v1
  EXPECT_EQ(whole["object"], "chat.completion");
  EXPECT_EQ(whole["choices"][0]["message"]["role"], "assistant");
  EXPECT_EQ(whole["choices"][0]["logprobs"]["content"].size(), whole["usage"]["completion_tokens"]);
  wanted["stream"] = true;
  wanted["n"] = 2;
  const std::vector<Json> events = events_of(server_->post("/v1/chat/completions", wanted));
  std::string text;
  size_t n_scores = 0;
  for (const Json& event : events) {
    const Json& choice = event["choices"][0];
    if (choice["index"] != 1) continue;
    if (choice["delta"].contains("content")) text += choice["delta"]["content"];
    if (!choice["logprobs"].is_null()) n_scores += choice["logprobs"]["content"].size();
  }
  EXPECT_EQ(text, whole["choices"][0]["message"]["content"]);
  EXPECT_EQ(n_scores, whole["choices"][0]["logprobs"]["content"].size());
  EXPECT_EQ(events[0]["choices"][0]["delta"]["role"], "assistant");
  EXPECT_EQ(events[1]["choices"][0]["index"], 1);
  EXPECT_EQ(events.back()["choices"][0]["delta"], Json::object());
}

TEST_F(ServeTest, AConversationContinuesWhereItsPromptIsKnown) {
  Json messages = Json::array({{{"role", "user"}, {"content", std::string(600, 'x') + ". Hello!"}}});
  Json body = {
      {"messages", messages},
      {"max_tokens", 40},
      {"temperature", 0},
      {"model", "fast"},
      {"ignore_eos", true},
      {"logit_bias", {{"97", 100}, {"98", 100}}}};  // letters: the answer is encoded to the same tokens
  const Json first = server_->post("/v1/chat/completions", body).json();
  EXPECT_EQ(first["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
  EXPECT_EQ(first["usage"]["sepllm"]["policy"], "sep-stream");
  EXPECT_LT(first["usage"]["sepllm"]["kv_full_share"], 0.5);
  body["messages"].push_back(first["choices"][0]["message"]);
  body["messages"].push_back({{"role", "user"}, {"content", "And then?"}});
  const Json second = server_->post("/v1/chat/completions", body).json();
  // Only what is new is fed, and the last token of the answer.
  EXPECT_GE(second["usage"]["prompt_tokens_details"]["cached_tokens"],
            first["usage"]["total_tokens"].get<int>() - 1);
  EXPECT_LE(second["timings"]["prompt_n"], std::string(";user:And then?;assistant:").size() + 1);
}

// The token that ends a text is counted, as by llama.cpp and vLLM: it was computed.
TEST_F(ServeTest, UsageCountsTheTokenThatEndsAText) {
  const std::string end = std::to_string(sepllm::kByteTokenizerEos);
  const Json body = {{"prompt", "Hi"}, {"max_tokens", 5}, {"n", 2}, {"logit_bias", {{end, 100}}}};
  const Json ended = complete(body).json();
  EXPECT_EQ(ended["choices"][0]["text"], "");
  EXPECT_EQ(ended["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(ended["usage"]["completion_tokens"], 2) << "one of each choice";
  EXPECT_EQ(ended["usage"]["total_tokens"], 4);
  EXPECT_EQ(ended["timings"]["predicted_n"], 2);
}

// A prompt that is sent again is known, whatever its length.
TEST_F(ServeTest, APromptThatIsSentAgainIsNotProcessedAgain) {
  const Json body = {{"prompt", "Once more, with feeling"}, {"max_tokens", 9}, {"model", "fast"}};
  const Json first = complete(body).json(), second = complete(body).json();
  EXPECT_EQ(second["choices"][0]["text"], first["choices"][0]["text"]);
  EXPECT_EQ(first["timings"]["prompt_n"], 23);
  EXPECT_EQ(second["timings"]["prompt_n"], 0);
  EXPECT_EQ(second["usage"]["prompt_tokens_details"]["cached_tokens"], 23);
}

TEST_F(ServeTest, SmallEndpoints) {
  EXPECT_EQ(server_->get("/health").body, R"({"status":"ok"})");
  const Json models = server_->get("/v1/models").json();
  EXPECT_EQ(models["data"][0]["id"], "tiny");
  EXPECT_EQ(models["data"][1]["id"], "fast");
  EXPECT_EQ(server_->get("/v1/models/fast").json()["sepllm"]["policy"], "sep-stream");
  EXPECT_EQ(server_->get("/v1/models/slow").status, 404);
  const Json ids = server_->post("/tokenize", {{"prompt", "Hi"}}).json();
  EXPECT_EQ(ids["tokens"], Json::array({72, 105}));
  EXPECT_EQ(ids["count"], 2);
  const Json pieces = server_->post("/tokenize", {{"content", "é"}, {"with_pieces", true}}).json();
  EXPECT_EQ(pieces["tokens"][0]["piece"], Json::array({0xC3}));
  EXPECT_EQ(server_->post("/detokenize", {{"tokens", {72, 105}}}).json()["content"], "Hi");
  EXPECT_EQ(server_->post("/detokenize", {{"tokens", {99999}}}).status, 400);
  const Json talk = {{"messages", {{{"role", "user"}, {"content", "x"}}}}};
  const std::string prompt = server_->post("/apply-template", talk).json()["prompt"];
  EXPECT_NE(prompt.find('x'), std::string::npos);
  EXPECT_EQ(server_->post("/tokenize", talk).json()["count"], prompt.size());
  const Json info = server_->get("/tokenizer_info").json();
  EXPECT_EQ(info["eos_token"], "<|end|>");
  EXPECT_TRUE(info.contains("chat_template") && info.contains("pad_token"));
  const HttpAnswer metrics = server_->get("/metrics");
  EXPECT_TRUE(metrics.headers.at("content-type").starts_with("text/plain; version=0.0.4"));
  for (const char* name :
       {"vllm:num_requests_running{model_name=\"tiny\"}", "vllm:time_to_first_token_seconds_bucket",
        "vllm:request_success_total", "sepllm:kv_limit_bytes", "http_requests_total{handler=\"/health\""})
    EXPECT_NE(metrics.body.find(name), std::string::npos) << name;
  HttpClient client(server_->port());
  client.send("OPTIONS /v1/models HTTP/1.1\r\nHost: x\r\n\r\n");
  const HttpAnswer options = client.read(false);
  EXPECT_EQ(options.status, 204);
  EXPECT_EQ(options.headers.at("allow"), "GET, HEAD, OPTIONS");
  EXPECT_FALSE(options.headers.contains("access-control-allow-origin"));
}

TEST_F(ServeTest, WhatAClientDoesWrongIsA4xxInOpenAisForm) {
  const auto error = [](const HttpAnswer& answer) {
    const Json json = answer.json()["error"];
    EXPECT_TRUE(json["message"].is_string() && json["type"].is_string() && json.contains("param"));
    return std::to_string(answer.status) + " " +
           (json["code"].is_null() ? "" : json["code"].get<std::string>());
  };
  EXPECT_EQ(error(complete({{"prompt", "x"}, {"n", 1000}})), "400 invalid_value");
  EXPECT_EQ(error(complete({{"prompt", "x"}, {"model", "y"}})), "404 model_not_found");
  EXPECT_EQ(error(complete({})), "400 missing_required_parameter");
  EXPECT_EQ(error(complete({{"prompt", "x"}, {"max_tokens", 2000000000}, {"stream", true}})),
            "400 context_length_exceeded");
  EXPECT_EQ(error(complete({{"prompt", "x"}, {"max_tokens", 2000000000}})), "400 answer_too_large");
  EXPECT_EQ(error(complete({{"prompt", "x"}, {"max_tokens", 300000}, {"logprobs", 0}})),
            "400 answer_too_large");
  EXPECT_EQ(error(complete(
                {{"prompt", std::string(300000, 'x')}, {"echo", true}, {"logprobs", 0}, {"max_tokens", 0}})),
            "400 answer_too_large");
  EXPECT_EQ(error(complete({{"prompt", Json::array({"a", "b", "c", "d", "e", "f", "g", "h", "i"})}})),
            "400 too_many_prompts");
  EXPECT_EQ(error(server_->get("/nothing")), "404 not_found");
  EXPECT_EQ(error(server_->get("/v1/completions")), "405 method_not_allowed");
  EXPECT_EQ(error(server_->post("/v1/completions", {{"prompt", "x"}}, "Origin: http://other.example\r\n")),
            "403 origin_not_allowed");
  HttpClient client(server_->port());
  client.send(HttpClient::request_text("POST", "/v1/completions", "{\"prompt\":"));
  EXPECT_EQ(error(client.read()), "400 ");
  client.send(HttpClient::request_text("POST", "/v1/completions", "x", "Content-Encoding: gzip\r\n"));
  EXPECT_EQ(error(client.read()), "415 ");
  client.send("POST /v1/completions HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n");
  EXPECT_EQ(error(client.read()), "413 ");
}

TEST_F(ServeTest, AClientThatLeavesEndsItsRequestAndNoOther) {
  const Json wanted = {{"prompt", "stay"}, {"max_tokens", 60}, {"temperature", 0}, {"ignore_eos", true}};
  const std::string alone = text_of(wanted);
  std::vector<std::unique_ptr<HttpClient>> leaving;
  for (const bool stream : {false, true, false, true, false, true}) {  // two of them wait in the queue
    Json body = kEndless;
    body["stream"] = stream;
    leaving.push_back(std::make_unique<HttpClient>(server_->port()));
    leaving.back()->send(HttpClient::request_text("POST", "/v1/completions", sepllm::json_text(body)));
  }
  EXPECT_TRUE(ServerProcess::eventually([] { return n_running(*server_) == 4; }));
  HttpClient staying(server_->port());
  staying.send(HttpClient::request_text("POST", "/v1/completions", sepllm::json_text(wanted)));
  for (const auto& client : leaving) client->leave();
  EXPECT_EQ(staying.read().json()["choices"][0]["text"], alone);
  EXPECT_TRUE(ServerProcess::eventually([] { return n_running(*server_) == 0; }));
}

TEST_F(ServeTest, AFullQueueIsToldWithATimeToTryAgain) {
  Json body = kEndless;
  body["stream"] = true;  // then what is taken is answered at once
  std::vector<std::unique_ptr<HttpClient>> clients;
  HttpAnswer refused;
  for (int k = 0; k < 30 && refused.status == 0; ++k) {
    clients.push_back(std::make_unique<HttpClient>(server_->port()));
    clients.back()->send(HttpClient::request_text("POST", "/v1/completions", sepllm::json_text(body)));
    ASSERT_TRUE(clients.back()->read_until("\r\n\r\n"));
    if (clients.back()->has("HTTP/1.1 429")) refused = clients.back()->read();
  }
  EXPECT_EQ(refused.status, 429);
  EXPECT_EQ(refused.json()["error"]["code"], "queue_full");
  EXPECT_TRUE(refused.headers.contains("retry-after"));
  clients.clear();
  // The server learns of each of them by itself.
  EXPECT_TRUE(ServerProcess::eventually([] { return complete({{"prompt", "x"}}).status == 200; }));
}

TEST_F(ServeTest, KeysAndOriginsAndTheLog) {
  const std::string keys = folder_->write("keys", "second-key\n");
  const ServerProcess server(
      model(), {"--api-key", "first-key", "--api-key-file", keys, "--cors", "http://page.example"});
  EXPECT_EQ(server.get("/v1/models").status, 401);
  EXPECT_EQ(server.get("/v1/models", "Authorization: Bearer wrong\r\n").json()["error"]["code"],
            "invalid_api_key");
  EXPECT_EQ(server.get("/metrics").status, 401);
  EXPECT_EQ(server.get("/health").status, 200);
  EXPECT_EQ(server.get("/v1/models", "Authorization: Bearer first-key\r\n").status, 200);
  EXPECT_EQ(server.get("/v1/models", "api-key: second-key\r\n").status, 200);
  const HttpAnswer page = server.post("/v1/completions", {{"prompt", "my secret text"}, {"max_tokens", 2}},
                                      "Authorization: Bearer second-key\r\nOrigin: http://page.example\r\n"
                                      "X-Request-Id: mine\r\n");
  EXPECT_EQ(page.status, 200);
  EXPECT_EQ(page.headers.at("access-control-allow-origin"), "http://page.example");
  EXPECT_TRUE(server.says("POST /v1/completions 200"));
  EXPECT_TRUE(server.says(" mine prompt=14 cached=0 new="));
  EXPECT_EQ(server.errors().find("secret"), std::string::npos);
  EXPECT_EQ(server.errors().find("first-key"), std::string::npos);
}

TEST_F(ServeTest, TheEndLosesNoAnswer) {
  ServerProcess server(model(), {"--drain-timeout", "20"});
  HttpClient stream(server.port()), whole(server.port());
  Json body = kEndless;
  constexpr int kTokens = 3000;  // both are still in progress when the server is asked
  body["max_tokens"] = kTokens;
  whole.send(HttpClient::request_text("POST", "/v1/completions", sepllm::json_text(body)));
  body["stream"] = true;
  stream.send(HttpClient::request_text("POST", "/v1/completions", sepllm::json_text(body)));
  EXPECT_TRUE(stream.read_until("data: "));
  EXPECT_TRUE(ServerProcess::eventually([&] { return n_running(server) == 2; }));
  server.signal(SIGTERM);
  EXPECT_TRUE(server.says("shutting down"));
  const Json json = whole.read().json();
  EXPECT_EQ(json["usage"]["completion_tokens"], kTokens);
  EXPECT_EQ(events_of(stream.read()).back()["timings"]["predicted_n"], kTokens);
  EXPECT_EQ(server.wait(), 0);
}

TEST_F(ServeTest, TheEndDoesNotWaitForEver) {
  ServerProcess server(model(), {"--drain-timeout", "1"});
  Json body = kEndless;
  body["stream"] = true;
  HttpClient stream(server.port());
  stream.send(HttpClient::request_text("POST", "/v1/completions", sepllm::json_text(body)));
  EXPECT_TRUE(stream.read_until("data: "));
  server.signal(SIGTERM);
  EXPECT_TRUE(server.says("shutting down"));
  // Meanwhile a balancer can see it, and nothing new begins.
  EXPECT_EQ(server.get("/health").status, 503);
  const HttpAnswer late = server.post("/v1/completions", {{"prompt", "x"}});
  EXPECT_EQ(late.status, 503);
  EXPECT_EQ(late.headers.at("connection"), "close");
  EXPECT_TRUE(stream.read_until("\"code\":\"shutting_down\""));
  EXPECT_EQ(server.wait(), 0);
  ServerProcess second(model(), {});
  HttpClient other(second.port());
  other.send(HttpClient::request_text("POST", "/v1/completions", sepllm::json_text(body)));
  EXPECT_TRUE(other.read_until("data: "));
  second.signal(SIGTERM);
  EXPECT_TRUE(second.says("shutting down"));
  second.signal(SIGTERM);
  EXPECT_EQ(second.wait(), 128 + SIGTERM);
}

TEST_F(ServeTest, MistakesAtTheStart) {
  using sepllm::test::expect_failure;
  const std::vector<std::string> serve = {"serve", "--model", model(), "--port", "0"};
  using sepllm::test::operator+;
  expect_failure(serve + std::vector<std::string>{"--alias", "x"}, {"--alias", "NAME=POLICY"});
  expect_failure(serve + std::vector<std::string>{"--alias", "x=sep,windov=3"},
                 {"windov", "did you mean 'window'"});
  expect_failure(serve + std::vector<std::string>{"--alias", "model=sep"}, {"--alias", "names that differ"});
  expect_failure(serve + std::vector<std::string>{"--api-key", ""}, {"--api-key"});
  expect_failure(serve + std::vector<std::string>{"--host", "256.0.0.1"}, {"cannot listen on 256.0.0.1"});
  expect_failure({"serve", "--model", model(), "--port", std::to_string(server_->port())},
                 {"cannot listen", "in use"});
}

}  // namespace
