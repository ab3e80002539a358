// Text generation: prompt in, tokens and text out as they come.
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <string>
#include <vector>

#include "engine/sampler.h"
#include "engine/session.h"

namespace sepllm {

struct GenerateRequest {
  std::vector<int32_t> prompt{};            // not empty
  int64_t max_new_tokens = 256;             // >= 0
  std::vector<int32_t> stop_ids{};          // end of sequence and turn tokens: end the text, not part of it
  std::vector<std::string> stop_strings{};  // end the text before them
  bool ignore_eos = false;
  bool skip_special = false;      // special tokens give no text (chat)
  std::function<bool()> go_on{};  // asked before each chunk of the prompt and each token; false cancels
};

struct GenerateResult {
  std::vector<int32_t> ids;  // the new tokens, a stop token not included
  std::string
      text;  // decode(prompt + ids) less decode(prompt), cut at a stop string; empty without a tokenizer
  std::string finish_reason;   // "length", "stop", "cancelled", "error"
  std::exception_ptr failure;  // the Error that ended the text ("error"): the caller shows it after the text
  int64_t prompt_tokens = 0;
  double prefill_seconds = 0.0;
  double decode_seconds = 0.0;
  double prefill_tokens_per_second() const {
    return prefill_seconds > 0 ? static_cast<double>(prompt_tokens) / prefill_seconds : 0.0;
  }
  double decode_tokens_per_second() const;
};

// Continues `session` with the request's prompt. `on_text` gets pieces of whole characters as they are
// certain (never part of a stop string); return false from it to cancel. Every token that is part of the
// result has entered the cache, except the last one sampled. Error where the prompt cannot be fed; an Error
// at a later token (learned positions that end) is in the result, so that the text so far is not lost.
GenerateResult generate(Session& session, Sampler& sampler, const GenerateRequest& request,
                        const std::function<bool(const std::string&)>& on_text);

}  // namespace sepllm
