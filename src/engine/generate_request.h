// A request for generated text, and its result.
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <string>
#include <vector>

namespace sepllm {

struct GenerateRequest {
  std::vector<int32_t> prompt{};  // not empty
  // the tokens of the session before the prompt, for the sampler's repeat penalty; may be empty
  std::vector<int32_t> before{};
  // how many tokens of the prompt are already in the session; < prompt.size()
  int64_t n_fed = 0;
  int64_t max_new_tokens = 256;  // >= 0
  // tokens that end a sequence or turn: they end the text and are not part of it
  std::vector<int32_t> stop_ids{};
  std::vector<std::string> stop_strings{};  // these end the text and are not part of it
  bool ignore_eos = false;
  bool skip_special = false;  // special tokens give no text (for chat)
  bool keep = true;           // the result holds ids and text; false: an endless stream, of which only
                              // on_text sees the text
  // asked before each chunk of the prompt and before each token; false cancels
  std::function<bool()> go_on{};
};

// Why a text has ended.
enum class FinishReason {
  kLength,     // it has as many new tokens as were asked for
  kStop,       // a stop token or a stop string
  kCancelled,  // the caller cancelled it
  kError,      // it could not continue: GenerateResult::failure says why
};
const char* finish_reason_name(FinishReason reason);  // "length", "stop", "cancelled", "error"

struct GenerateResult {
  std::vector<int32_t> ids;  // the new tokens without the stop token
  // decode(prompt + ids) without decode(prompt), cut at a stop string; empty without a tokenizer
  std::string text;
  FinishReason finish_reason = FinishReason::kLength;
  std::exception_ptr failure;  // for kError: its Error, which the caller shows after the text
  int64_t prompt_tokens = 0;
  int64_t new_tokens = 0;   // the number of new tokens, even if ids does not keep them
  bool stop_token = false;  // whether a stop token ended the text: it was sampled, but is no part of the text
  int64_t sampled_tokens() const { return new_tokens + (stop_token ? 1 : 0); }
  double prefill_seconds = 0.0;
  double decode_seconds = 0.0;
  double prefill_tokens_per_second() const {
    return prefill_seconds > 0 ? static_cast<double>(prompt_tokens) / prefill_seconds : 0.0;
  }
  double decode_tokens_per_second() const {
    // The first new token comes from the prefill's logits: decoding computes the others.
    return decode_seconds > 0 && new_tokens > 1 ? static_cast<double>(new_tokens - 1) / decode_seconds : 0.0;
  }
};

}  // namespace sepllm
