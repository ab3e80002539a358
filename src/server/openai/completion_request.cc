#include "server/openai/completion_request.h"

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/utf8.h"
#include "server/openai/api_error.h"
#include "server/openai/limits.h"

namespace sepllm::server {
namespace {

CompletionPrompt prompt_of_text(const std::string& text, const Model& model) {
  CompletionPrompt prompt{.ids = {}, .text = text};
  try {
    const Tokenizer& tokenizer = model.tokenizer_or_error();
    prompt.ids = tokenizer.encode(text);
    // An empty prompt begins with the start token, whatever the tokenizer does.
    if (tokenizer.adds_bos() || prompt.ids.empty()) {
      prompt.ids.insert(prompt.ids.begin(), model.start_token());
      prompt.begins_with_added_bos = true;
    }
  } catch (const Error& error) {
    throw as_api_error(error, "prompt");
  }
  return prompt;
}

CompletionPrompt prompt_of_ids(const Json& list, const Model& model, bool skip_special) {
  CompletionPrompt prompt{.ids = read_ids(list, "prompt", model.config().vocab_size)};
  if (prompt.ids.empty())
    throw ApiError(400, "'prompt' must not be an empty list", "prompt", "invalid_value");
  if (model.tokenizer) prompt.text = utf8_sanitize(model.tokenizer->decode(prompt.ids, skip_special));
  return prompt;
}

}  // namespace

CompletionRequest read_completion_settings(const Fields& request, const ServedModels& models,
                                           const SamplingSettings& defaults, int64_t vocab_size) {
  CompletionRequest out{.settings = read_settings(request, models, defaults, vocab_size), .prompts = {}};
  RequestSettings& s = out.settings;
  out.echo = request.boolean("echo").value_or(false);
  const Json* suffix = request.find("suffix");
  if (suffix != nullptr && *suffix != Json(""))
    throw ApiError(400, "'suffix' is not supported by this server", "suffix", "unsupported_parameter");
  const Json* logprobs = request.find("logprobs");
  if (logprobs != nullptr && logprobs->is_boolean()) {
    s.n_top = logprobs->get<bool>() ? 0 : -1;
  } else {
    s.n_top = request.integer("logprobs", 0, kMaxTop).value_or(-1);
  }
  if (s.max_tokens.value_or(1) == 0 && !out.echo) {
    throw ApiError(400, "'max_tokens' must be at least 1 (0 only with echo)", "max_tokens", "invalid_value");
  }
  if (!s.max_tokens) s.max_tokens = kCompletionTokens;
  return out;
}

std::vector<CompletionPrompt> read_prompts(const Fields& request, const Model& model, bool skip_special,
                                           size_t most) {
  constexpr const char* kForms = "a string, a list of strings, a list of token ids, or a list of such lists";
  const Json* value = request.find("prompt");
  if (value == nullptr) throw ApiError(400, "'prompt' is missing", "prompt", "missing_required_parameter");
  if (value->is_string()) return {prompt_of_text(value->get_ref<const std::string&>(), model)};
  if (!value->is_array() || value->empty()) request.refuse("prompt", kForms);
  const Json& list = *value;
  if (list[0].is_number()) return {prompt_of_ids(list, model, skip_special)};
  if (list.size() > most) {
    throw ApiError(400, fmt::format("a request may have at most {} prompts, not {}", most, list.size()),
                   "prompt", "too_many_prompts");
  }
  std::vector<CompletionPrompt> prompts;
  for (const Json& one : list) {
    if (one.is_string() == list[0].is_string() && one.is_string()) {
      prompts.push_back(prompt_of_text(one.get_ref<const std::string&>(), model));
    } else if (one.is_array() && list[0].is_array()) {
      prompts.push_back(prompt_of_ids(one, model, skip_special));
    } else {
      request.refuse("prompt", kForms);
    }
  }
  return prompts;
}

}  // namespace sepllm::server
