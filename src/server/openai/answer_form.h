// The JSON of answers: chat.completion and text_completion, whole and in the chunks of a stream.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "engine/token_score.h"
#include "text/tokenizer.h"

namespace sepllm::server {

// A token that was scored, and where it stands in the text of its choice.
struct ScoredToken {
  TokenScore score;
  int64_t text_offset = 0;  // in characters
  bool scored = true;       // false: the first token of a text, which nothing predicts
};

// What differs between the two endpoints. All functions are pure.
class AnswerForm {
 public:
  virtual ~AnswerForm() = default;
  virtual const char* id_prefix() const = 0;
  virtual const char* object(bool stream) const = 0;
  // Whether the token that ended a text is among the scored ones. Programs that score texts by completions
  // count on a score for every token that was sampled.
  virtual bool scores_end() const = 0;
  // The logprobs of these tokens. `tokenizer` may be null: then ids stand for texts.
  virtual Json logprobs(const Tokenizer* tokenizer, std::span<const ScoredToken> tokens) const = 0;
  // The first chunk of a choice in a stream; null: there is none.
  virtual Json opening(int64_t index) const = 0;
  // A chunk with more text; `logprobs` may be null.
  virtual Json piece(int64_t index, const std::string& text, Json logprobs) const = 0;
  // The chunk that ends a choice.
  virtual Json ending(int64_t index, const char* finish_reason) const = 0;
  // A whole choice.
  virtual Json whole(int64_t index, const std::string& text, Json logprobs,
                     const char* finish_reason) const = 0;
};

const AnswerForm& chat_form();
const AnswerForm& completion_form();

// The text that stands for a token in logprobs: its bytes, with U+FFFD for what is not UTF-8.
std::string token_text(const Tokenizer* tokenizer, int32_t id);

// What all chunks and answers of one request begin with.
struct AnswerFrame {
  std::string id;
  int64_t created = 0;
  std::string model;
  const AnswerForm* form = nullptr;

  // {"id", "object", "created", "model", "choices"} and, if `null_usage`, "usage": null.
  Json json(bool stream, Json choices, bool null_usage = false) const;
};

// One event of a stream.
std::string sse_event(const Json& data);
inline constexpr std::string_view kSseDone = "data: [DONE]\n\n";

}  // namespace sepllm::server
