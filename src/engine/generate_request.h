// What a generation is asked for, and what it yields.
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <string>
#include <vector>

namespace sepllm {

struct GenerateRequest {
  std::vector<int32_t> prompt{};            // not empty
  int64_t n_fed = 0;                        // of the prompt, already in the session; < prompt.size()
  int64_t max_new_tokens = 256;             // >= 0
  std::vector<int32_t> stop_ids{};          // end of sequence and turn tokens: end the text, not part of it
  std::vector<std::string> stop_strings{};  // end the text before them
  bool ignore_eos = false;
  bool skip_special = false;      // special tokens give no text (chat)
  bool keep = true;               // the result holds ids and text; false: an endless stream, of which only
                                  // on_text sees the text
  std::function<bool()> go_on{};  // asked before each chunk of the prompt and each token; false cancels
};

// Why a text has ended.
enum class FinishReason {
  kLength,     // it has as many new tokens as were asked for
  kStop,       // a stop token or a stop string
  kCancelled,  // by who asked for it
  kError,      // it could not continue: GenerateResult::failure says why
};
const char* finish_reason_name(FinishReason reason);  // "length", "stop", "cancelled", "error"

struct GenerateResult {
  std::vector<int32_t> ids;  // the new tokens, a stop token not included
  // decode(prompt + ids) less decode(prompt), cut at a stop string; empty without a tokenizer
  std::string text;
  FinishReason finish_reason = FinishReason::kLength;
  std::exception_ptr failure;  // the Error of kError: the caller shows it after the text
  int64_t prompt_tokens = 0;
  int64_t new_tokens = 0;  // as many as ids holds, also where they are not kept
  double prefill_seconds = 0.0;
  double decode_seconds = 0.0;
  double prefill_tokens_per_second() const {
    return prefill_seconds > 0 ? static_cast<double>(prompt_tokens) / prefill_seconds : 0.0;
  }
  double decode_tokens_per_second() const {
    // The first new token comes from the prefill's logits: decoding makes the others.
    return decode_seconds > 0 && new_tokens > 1 ? static_cast<double>(new_tokens - 1) / decode_seconds : 0.0;
  }
};

}  // namespace sepllm
