// A request for /v1/completions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/model.h"
#include "server/openai/request_settings.h"

namespace sepllm::server {

struct CompletionPrompt {
  std::vector<int32_t> ids;            // not empty
  std::string text{};                  // what an echo shows
  bool begins_with_added_bos = false;  // ids[0] is not part of the text
};

struct CompletionRequest {
  RequestSettings settings;
  std::vector<CompletionPrompt> prompts;
  bool echo = false;
};

// OpenAI's default, where a request does not say max_tokens.
inline constexpr int64_t kCompletionTokens = 16;

// The settings, without the prompts: these may take long to tokenise. ApiError.
CompletionRequest read_completion_settings(const Fields& request, const ServedModels& models,
                                           const SamplingSettings& defaults, int64_t vocab_size);
// "prompt": a text, ids, or a list of either with at most `most` entries. ApiError.
std::vector<CompletionPrompt> read_prompts(const Fields& request, const Model& model, bool skip_special,
                                           size_t most);

}  // namespace sepllm::server
