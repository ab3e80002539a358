// The endpoints that generate text.
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "base/error.h"
#include "server/openai/api_error.h"
#include "server/openai/chat_request.h"
#include "server/openai/completion_request.h"
#include "server/openai/fields.h"
#include "server/openai/limits.h"
#include "server/routes/api.h"
#include "server/routes/generation.h"

namespace sepllm::server {
namespace {

void append(std::vector<int32_t>& ids, const std::vector<int32_t>& more) {
  ids.insert(ids.end(), more.begin(), more.end());
}

// How many tokens an answer may have if the request does not say: the server's default, but no more than
// there are learned positions.
int64_t default_tokens(const Api& api, const PolicySettings& policy, int64_t n_prompt) {
  const ModelConfig& config = api.model.config();
  const bool bounded =
      config.position == PositionType::kLearned && policy.policy.positions != PositionMode::kCache;
  const int64_t most = api.settings.max_tokens_default;
  return bounded ? std::clamp<int64_t>(config.max_positions - n_prompt, 1, most) : most;
}

const Tokenizer& tokenizer_or_refuse(const Api& api) {
  if (api.tokenizer() == nullptr)
    throw ApiError(400, "the model has no tokenizer: it takes only token ids, at /v1/completions");
  return *api.tokenizer();
}

}  // namespace

void complete(Api& api, const HttpExchangePtr& exchange) {
  const Json body = parse_body(exchange->request().body);
  const Fields fields(body);
  CompletionRequest request =
      read_completion_settings(fields, api.models, api.settings.sampling, api.model.config().vocab_size);
  // All prompts of a request must find room in the queue.
  const auto most = static_cast<size_t>(api.settings.service.max_queue);
  request.prompts = read_prompts(fields, api.model, request.settings.skip_special, most);
  if (request.prompts.size() * static_cast<size_t>(request.settings.n) > kMaxAnswers)
    throw ApiError(400, fmt::format("a request may have at most {} choices over all prompts", kMaxAnswers),
                   "n", "too_many_choices");
  Generation::start(api, exchange,
                    {.form = &completion_form(),
                     .settings = std::move(request.settings),
                     .prompts = std::move(request.prompts),
                     .stop_ids = api.model.end_tokens(),
                     .echo = request.echo});
}

void chat_complete(Api& api, const HttpExchangePtr& exchange) {
  const Json body = parse_body(exchange->request().body);
  const Fields fields(body);
  RequestSettings settings =
      read_chat_settings(fields, api.models, api.settings.sampling, api.model.config().vocab_size);
  const Tokenizer& tokenizer = tokenizer_or_refuse(api);
  const MarkedText text = write_prompt(api.settings.chat, tokenizer, read_messages(fields));
  CompletionPrompt prompt{.ids = encode_marked(tokenizer, text)};
  if (prompt.ids.empty()) throw ApiError(400, "the chat template writes an empty prompt", "messages");
  if (!settings.max_tokens)
    settings.max_tokens = default_tokens(api, settings.policy, std::ssize(prompt.ids));
  ChatStops stops = api.settings.chat.stops(tokenizer, clock_now());
  append(stops.ids, api.model.end_tokens());
  settings.stops.insert(settings.stops.end(), stops.strings.begin(), stops.strings.end());
  Generation::start(api, exchange,
                    {.form = &chat_form(),
                     .settings = std::move(settings),
                     .prompts = {std::move(prompt)},
                     .stop_ids = std::move(stops.ids)});
}

}  // namespace sepllm::server
