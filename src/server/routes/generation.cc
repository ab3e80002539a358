#include "server/routes/generation.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <exception>
#include <iterator>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "server/openai/api_error.h"
#include "server/openai/limits.h"
#include "server/page/cache_report.h"

namespace sepllm::server {
namespace {

// What clients know: other reasons are not ends of a text but failures.
const char* openai_reason(FinishReason reason) { return reason == FinishReason::kLength ? "length" : "stop"; }

ApiError refused_by_service(const Error& error) {
  ApiError out = as_api_error(error);
  if (error.code() != ErrorCode::kOutOfRange) return out;
  // Clients know this case by its code, or by some of these words.
  out.message = "this request is beyond the maximum context length of this server: " + out.message;
  out.code = "context_length_exceeded";
  return out;
}

ApiError failure_of(const GenerateResult& result) {
  if (result.finish_reason == FinishReason::kCancelled) return shutting_down();
  try {
    if (result.failure) std::rethrow_exception(result.failure);
  } catch (const Error& error) {
    return {500, "the text could not be continued: " + as_api_error(error).message};
  } catch (const std::exception& error) {
    log_warning(std::string("a text could not be continued: ") + error.what());
  }
  return {500, "the text could not be continued"};
}

// Refuses answers that would take too much memory before they can be sent.
void check_size(const GenerationPlan& plan) {
  const RequestSettings& s = plan.settings;
  const bool echo_scores = plan.echo && s.n_top >= 0;
  int64_t held = 0;
  for (const CompletionPrompt& prompt : plan.prompts) {
    const int64_t n_new = s.stream ? 0 : std::min(s.max_tokens.value_or(0), kMaxWholeTokens + 1);
    held += s.n * n_new + (echo_scores ? std::ssize(prompt.ids) : 0);
  }
  const int64_t most = s.n_top >= 0 ? kMaxScoredTokens : kMaxWholeTokens;
  if (held <= most) return;
  throw ApiError(
      400,
      fmt::format("an answer may have at most {} tokens{} over all choices, not {}; more only as a stream",
                  most, s.n_top >= 0 ? " with logprobs" : "", held),
      "max_tokens", "answer_too_large");
}

}  // namespace

Generation::Generation(Api& api, HttpExchangePtr exchange, GenerationPlan plan)
    : api_(api), exchange_(std::move(exchange)), plan_(std::move(plan)) {
  const std::string& id = exchange_->request().id;
  frame_ = {
      .id = plan_.form->id_prefix() + (id.starts_with("req_") ? id.substr(4) : new_request_id().substr(4)),
      .created = static_cast<int64_t>(std::time(nullptr)),
      .model = plan_.settings.model->name,
      .form = plan_.form};
  choices_.resize(plan_.prompts.size() * static_cast<size_t>(plan_.settings.n));
  echoes_.resize(plan_.prompts.size());
  n_left_ = choices_.size();
}

void Generation::start(Api& api, const HttpExchangePtr& exchange, GenerationPlan plan) {
  check_size(plan);
  const std::shared_ptr<Generation> self(new Generation(api, exchange, std::move(plan)));
  exchange->set_on_gone([cancelled = self->cancelled_] { *cancelled = true; });
  // Events that come at once wait until the head of a stream has been written.
  const std::lock_guard lock(self->mutex_);
  try {
    self->submit_all();
  } catch (...) {
    *self->cancelled_ = true;
    self->failed_ = true;
    throw;
  }
  if (self->plan_.settings.stream) self->begin_stream();
}

void Generation::submit_all() {
  for (size_t p = 0; p < plan_.prompts.size(); ++p) {
    usage_.prompt_tokens += std::ssize(plan_.prompts[p].ids);
    std::optional<int64_t> number;
    try {
      number = api_.service.submit(request_for(p));
    } catch (const Error& error) {
      throw refused_by_service(error);
    }
    if (number) continue;
    throw api_.draining ? shutting_down() : queue_full();
  }
}

ServiceRequest Generation::request_for(size_t p) {
  const RequestSettings& s = plan_.settings;
  ServiceRequest out;
  out.generate.prompt = plan_.prompts[p].ids;
  out.generate.max_new_tokens = *s.max_tokens;
  out.generate.stop_ids = plan_.stop_ids;
  out.generate.stop_strings = s.stops;
  out.generate.ignore_eos = s.ignore_eos;
  out.generate.skip_special = s.skip_special;
  out.generate.keep = false;
  out.sampling = s.sampling;
  // Every prompt of a list draws from other seeds.
  out.sampling.seed += static_cast<int64_t>(p) * s.n;
  out.policy = settings_for_text(api_.model, s.policy, std::ssize(out.generate.prompt));
  out.n_choices = s.n;
  out.n_top = s.n_top;
  out.score_prompt = scores_prompt();
  out.reuse_prefix = s.reuse_prefix;
  out.cancelled = cancelled_;
  const auto self = shared_from_this();
  out.on_prompt = [self, p](const PromptEvent& event) { self->on_prompt(p, event); };
  out.on_text = [self, p](const TextEvent& event) { self->on_text(p, event); };
  out.on_end = [self, p](const EndEvent& event) { self->on_end(p, event); };
  return out;
}

void Generation::begin_stream() {
  HttpResponse head{.content_type = "text/event-stream; charset=utf-8",
                    .headers = {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}}};
  for (size_t c = 0; c < choices_.size(); ++c) {
    const Json opening = plan_.form->opening(static_cast<int64_t>(c));
    if (!opening.is_null()) head.body += sse_event(chunk(opening));
  }
  exchange_->start_stream(std::move(head));
  // Some clients give up when no chunk comes for long, as while a long prompt is fed.
  exchange_->keep_alive(api_.settings.keep_alive_seconds,
                        sse_event(chunk(plan_.form->piece(0, "", nullptr))));
}

void Generation::on_prompt(size_t p, const PromptEvent& event) {
  if (!scores_prompt()) return;
  const std::lock_guard lock(mutex_);
  Echo& echo = echoes_[p];
  for (const TokenScore& score : event.scores) echo.tokens.push_back({score, 0, true});
}

// The prompt's part of a choice, once all of it is known.
void Generation::begin_choice(size_t p, Choice& choice, int64_t index) {
  if (std::exchange(choice.begun, true)) return;
  const CompletionPrompt& prompt = plan_.prompts[p];
  if (!plan_.echo) {
    if (has_scores()) choice.offsets.emplace(api_.tokenizer(), prompt.ids, plan_.settings.skip_special);
    return;
  }
  Echo& echo = echoes_[p];
  if (has_scores() && !echo.offsets) place_echo(prompt, echo);
  if (echo.offsets) choice.offsets.emplace(*echo.offsets);
  if (!plan_.settings.stream) {
    choice.text = prompt.text;
    choice.tokens = echo.tokens;
  } else {
    Json logprobs;
    if (has_scores()) logprobs = plan_.form->logprobs(api_.tokenizer(), echo.tokens);
    send(plan_.form->piece(index, prompt.text, std::move(logprobs)));
  }
}

// The offsets of the prompt's tokens, of which the first one has no score.
void Generation::place_echo(const CompletionPrompt& prompt, Echo& echo) const {
  // A token that only begins the text is before it.
  const std::vector<int32_t> before(prompt.ids.begin(),
                                    prompt.ids.begin() + (prompt.begins_with_added_bos ? 1 : 0));
  echo.offsets.emplace(api_.tokenizer(), before, plan_.settings.skip_special);
  echo.tokens.insert(echo.tokens.begin(), {.score = {.id = prompt.ids[0]}, .scored = false});
  for (size_t k = before.size(); k < prompt.ids.size(); ++k) {
    const int64_t at = echo.offsets->next(prompt.ids[k]);
    if (k < echo.tokens.size()) echo.tokens[k].text_offset = at;
  }
}

void Generation::add_tokens(Choice& choice, std::span<const TokenScore> scores) {
  const auto ends = [&](int32_t id) {
    const std::vector<int32_t>& stops = plan_.stop_ids;
    return !plan_.settings.ignore_eos && std::find(stops.begin(), stops.end(), id) != stops.end();
  };
  for (const TokenScore& score : scores) {
    if (ends(score.id) && !plan_.form->scores_end()) continue;
    choice.tokens.push_back({score, choice.offsets->next(score.id), true});
  }
}

Json Generation::take_logprobs(Choice& choice) const {
  if (!has_scores()) return nullptr;
  Json out = plan_.form->logprobs(api_.tokenizer(), choice.tokens);
  choice.tokens.clear();
  return out;
}

void Generation::on_text(size_t p, const TextEvent& event) {
  const std::lock_guard lock(mutex_);
  if (failed_) return;
  const int64_t index = static_cast<int64_t>(p) * plan_.settings.n + event.choice;
  Choice& choice = choices_[static_cast<size_t>(index)];
  begin_choice(p, choice, index);
  add_tokens(choice, event.scores);
  note_time(choice);
  if (!plan_.settings.stream) {
    choice.text += event.text;
  } else if (!event.text.empty()) {
    Json next = chunk(plan_.form->piece(index, event.text, take_logprobs(choice)));
    report_cache(next, index, event.session, /*last=*/false);
    exchange_->write(sse_event(next));
  }
}

// Adds what the cache of the first choice holds, if the request asked for it: not with every token, because
// listing a long cache takes a while.
void Generation::report_cache(Json& chunk, int64_t index, const Session* session, bool last) {
  constexpr std::chrono::milliseconds kInterval{200};
  const Clock::time_point now = Clock::now();
  if (!plan_.settings.include_cache || index != 0 || session == nullptr) return;
  if (!last && now - last_report_ < kInterval) return;
  last_report_ = now;
  chunk["sepllm"] = cache_report(*session);
}

void Generation::note_time(Choice& choice) {
  const Clock::time_point now = Clock::now();
  const auto seconds = [&](Clock::time_point from) {
    return std::chrono::duration<double>(now - from).count();
  };
  if (!any_text_) api_.metrics.first_token(seconds(start_));
  if (choice.last_text != Clock::time_point{}) api_.metrics.next_token(seconds(choice.last_text));
  any_text_ = true;
  choice.last_text = now;
}

void Generation::on_end(size_t p, const EndEvent& event) {
  const std::lock_guard lock(mutex_);
  const int64_t index = static_cast<int64_t>(p) * plan_.settings.n + event.choice;
  Choice& choice = choices_[static_cast<size_t>(index)];
  const GenerateResult& result = *event.result;
  choice.finish = result.finish_reason;
  usage_.new_tokens += result.sampled_tokens();
  if (event.choice == 0) {
    usage_.cached_tokens += event.cached_tokens;
    usage_.prompt_seconds += result.prefill_seconds;
    usage_.decode_seconds += result.decode_seconds;
    usage_.queue_seconds += event.queue_seconds;
  }
  if (event.session != nullptr) usage_.add_cache(event.session->cache());
  --n_left_;
  const bool complete =
      result.finish_reason == FinishReason::kLength || result.finish_reason == FinishReason::kStop;
  if (!complete && !failed_) fail(failure_of(result));
  if (!failed_) {
    begin_choice(p, choice, index);
    if (plan_.settings.stream) end_choice(choice, index, event.session);
  }
  if (n_left_ == 0) all_ended();
}

void Generation::end_choice(Choice& choice, int64_t index, const Session* session) {
  // Tokens whose text was part of a stop string.
  if (!choice.tokens.empty()) send(plan_.form->piece(index, "", take_logprobs(choice)));
  Json last = chunk(plan_.form->ending(index, openai_reason(choice.finish)));
  // llama.cpp's place for them; clients that do not know them ignore them.
  if (n_left_ == 0) last["timings"] = timings_json(usage_);
  report_cache(last, index, session, /*last=*/true);
  exchange_->write(sse_event(last));
}

Json Generation::chunk(Json choice) const {
  return frame_.json(true, Json::array({std::move(choice)}), plan_.settings.include_usage);
}

void Generation::send(Json choice) { exchange_->write(sse_event(chunk(std::move(choice)))); }

// Ends the answer, and everything that still runs for it.
void Generation::fail(const ApiError& error) {
  failed_ = true;
  *cancelled_ = true;
  if (plan_.settings.stream) {
    exchange_->write(sse_event(error_json(error)));
    exchange_->finish();
  } else {
    exchange_->respond(error_response(error));
  }
}

void Generation::all_ended() {
  const double seconds = std::chrono::duration<double>(Clock::now() - start_).count();
  const char* reason = exchange_->gone() ? "abort" : failed_ ? "error" : openai_reason(choices_[0].finish);
  api_.metrics.request_done(usage_, seconds, reason);
  exchange_->set_note(fmt::format("prompt={} cached={} new={} {}", usage_.prompt_tokens, usage_.cached_tokens,
                                  usage_.new_tokens, reason));
  if (failed_) return;
  if (plan_.settings.stream) return end_stream();
  // The JSON of many scores takes a while: the service's thread does not wait for it.
  api_.small_work.post([self = shared_from_this()] { self->respond_whole(); });
}

void Generation::end_stream() {
  if (plan_.settings.include_usage) {
    Json last = frame_.json(true, Json::array());
    last["usage"] = usage_json(usage_, plan_.settings.policy);
    exchange_->write(sse_event(last));
  }
  exchange_->write(std::string(kSseDone));
  exchange_->finish();
}

void Generation::respond_whole() {
  const std::lock_guard lock(mutex_);
  Json list = Json::array();
  for (size_t c = 0; c < choices_.size(); ++c) {
    Choice& choice = choices_[c];
    list.push_back(plan_.form->whole(static_cast<int64_t>(c), choice.text, take_logprobs(choice),
                                     openai_reason(choice.finish)));
  }
  Json out = frame_.json(false, std::move(list));
  out["usage"] = usage_json(usage_, plan_.settings.policy);
  out["timings"] = timings_json(usage_);
  exchange_->respond({.body = json_text(out)});
}

}  // namespace sepllm::server
