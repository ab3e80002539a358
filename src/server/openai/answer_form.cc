#include "server/openai/answer_form.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/utf8.h"

namespace sepllm::server {
namespace {

std::string token_bytes(const Tokenizer* tokenizer, int32_t id) {
  return tokenizer == nullptr ? fmt::format("token_id:{}", id) : tokenizer->token_bytes(id);
}

// {"token", "logprob", "bytes"}
Json token_json(const Tokenizer* tokenizer, int32_t id, float logprob) {
  const std::string bytes = token_bytes(tokenizer, id);
  Json list = Json::array();
  for (const char byte : bytes) list.push_back(static_cast<unsigned char>(byte));
  return {{"token", utf8_sanitize(bytes)}, {"logprob", logprob}, {"bytes", std::move(list)}};
}

class ChatForm : public AnswerForm {
 public:
  const char* id_prefix() const override { return "chatcmpl-"; }
  bool scores_end() const override { return false; }
  const char* object(bool stream) const override {
    return stream ? "chat.completion.chunk" : "chat.completion";
  }
  Json logprobs(const Tokenizer* tokenizer, std::span<const ScoredToken> tokens) const override {
    Json content = Json::array();
    for (const ScoredToken& token : tokens) {
      Json one = token_json(tokenizer, token.score.id, token.score.logprob);
      Json top = Json::array();
      for (const auto& [id, logprob] : token.score.top) top.push_back(token_json(tokenizer, id, logprob));
      one["top_logprobs"] = std::move(top);
      content.push_back(std::move(one));
    }
    return {{"content", std::move(content)}, {"refusal", nullptr}};
  }
  Json opening(int64_t index) const override {
    return chunk(index, {{"role", "assistant"}, {"content", ""}}, nullptr, nullptr);
  }
  Json piece(int64_t index, const std::string& text, Json logprobs) const override {
    Json delta = Json::object();
    if (!text.empty() || !logprobs.is_null()) delta["content"] = text;
    return chunk(index, std::move(delta), std::move(logprobs), nullptr);
  }
  Json ending(int64_t index, const char* finish_reason) const override {
    return chunk(index, Json::object(), nullptr, finish_reason);
  }
  Json whole(int64_t index, const std::string& text, Json logprobs,
             const char* finish_reason) const override {
    return {{"index", index},
            {"message", {{"role", "assistant"}, {"content", text}, {"refusal", nullptr}}},
            {"logprobs", std::move(logprobs)},
            {"finish_reason", finish_reason}};
  }

 private:
  static Json chunk(int64_t index, Json delta, Json logprobs, const char* finish_reason) {
    return {{"index", index},
            {"delta", std::move(delta)},
            {"logprobs", std::move(logprobs)},
            {"finish_reason", finish_reason == nullptr ? Json() : Json(finish_reason)}};
  }
};

class CompletionForm : public AnswerForm {
 public:
  const char* id_prefix() const override { return "cmpl-"; }
  bool scores_end() const override { return true; }
  const char* object(bool) const override { return "text_completion"; }
  Json logprobs(const Tokenizer* tokenizer, std::span<const ScoredToken> tokens) const override {
    Json texts = Json::array(), values = Json::array(), tops = Json::array(), offsets = Json::array();
    for (const ScoredToken& token : tokens) {
      texts.push_back(token_text(tokenizer, token.score.id));
      values.push_back(token.scored ? Json(token.score.logprob) : Json());
      tops.push_back(token.scored ? top_of(tokenizer, token.score) : Json());
      offsets.push_back(token.text_offset);
    }
    return {{"tokens", std::move(texts)},
            {"token_logprobs", std::move(values)},
            {"top_logprobs", std::move(tops)},
            {"text_offset", std::move(offsets)}};
  }
  Json opening(int64_t) const override { return nullptr; }
  Json piece(int64_t index, const std::string& text, Json logprobs) const override {
    return whole(index, text, std::move(logprobs), nullptr);
  }
  Json ending(int64_t index, const char* finish_reason) const override {
    return whole(index, "", nullptr, finish_reason);
  }
  Json whole(int64_t index, const std::string& text, Json logprobs,
             const char* finish_reason) const override {
    return {{"index", index},
            {"text", text},
            {"logprobs", std::move(logprobs)},
            {"finish_reason", finish_reason == nullptr ? Json() : Json(finish_reason)}};
  }

 private:
  // A map from texts to logprobs, with the token itself. Different ids may have the same text (parts of
  // characters): then the larger value stands for them.
  static Json top_of(const Tokenizer* tokenizer, const TokenScore& score) {
    std::vector<std::pair<std::string, float>> map;
    const auto add = [&](int32_t id, float logprob) {
      const std::string text = token_text(tokenizer, id);
      const auto it =
          std::find_if(map.begin(), map.end(), [&](const auto& one) { return one.first == text; });
      if (it == map.end()) {
        map.emplace_back(text, logprob);
      } else {
        it->second = std::max(it->second, logprob);
      }
    };
    add(score.id, score.logprob);
    for (const auto& [id, logprob] : score.top) add(id, logprob);
    Json out = Json::object();
    for (const auto& [text, logprob] : map) out.push_back({text, logprob});
    return out;
  }
};

}  // namespace

const AnswerForm& chat_form() {
  static const ChatForm kForm;
  return kForm;
}

const AnswerForm& completion_form() {
  static const CompletionForm kForm;
  return kForm;
}

std::string token_text(const Tokenizer* tokenizer, int32_t id) {
  return utf8_sanitize(token_bytes(tokenizer, id));
}

Json AnswerFrame::json(bool stream, Json choices, bool null_usage) const {
  Json out = {{"id", id},
              {"object", form->object(stream)},
              {"created", created},
              {"model", model},
              {"system_fingerprint", "sepllm-" SEPLLM_VERSION},
              {"choices", std::move(choices)}};
  if (null_usage) out["usage"] = nullptr;
  return out;
}

std::string sse_event(const Json& data) { return "data: " + json_text(data) + "\n\n"; }

}  // namespace sepllm::server
