#include "engine/generator.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <iterator>
#include <span>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/error.h"

namespace sepllm {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

Generation::Generation(Session& session, Sampler& sampler, const GenerateRequest& request,
                       std::function<bool(const std::string&)> on_text, std::span<const float> logits)
    : session_(session),
      sampler_(sampler),
      continuation_(session.model(), request, sampler.recent_tokens(), std::move(on_text)),
      first_logits_(logits.begin(), logits.end()) {
  SEPLLM_CHECK(request.n_fed >= 0 && request.n_fed <= std::ssize(request.prompt));
  SEPLLM_CHECK((request.n_fed == std::ssize(request.prompt)) == !logits.empty());
}

std::span<const float> Generation::feed_prompt() {
  const GenerateRequest& request = continuation_.request();
  constexpr int64_t kAhead = 1024;  // the number of new tokens that the cache has room for from the start
  const int64_t n_left = std::ssize(request.prompt) - request.n_fed;
  session_.cache().reserve(n_left + std::min(request.max_new_tokens, kAhead));
  if (!first_logits_.empty()) return first_logits_;
  const Clock::time_point start = Clock::now();
  const std::span<const float> logits = session_.advance(
      std::span(request.prompt).subspan(static_cast<size_t>(request.n_fed)), [&] { return go_on(); });
  if (logits.empty()) continuation_.end(FinishReason::kCancelled);
  result().prefill_seconds = seconds_since(start);
  return logits;
}

std::span<const float> Generation::feed_last() {
  try {
    const std::span<const float> logits = session_.advance({&last_, 1}, [&] { return go_on(); });
    if (logits.empty()) continuation_.end(FinishReason::kCancelled);
    return logits;
  } catch (const Error&) {
    continuation_.end(FinishReason::kError, std::current_exception());
    return {};
  }
}

bool Generation::take(std::span<const float> logits) {
  if (continuation_.ended()) return false;
  last_ = sampler_.sample(logits, continuation_.recent());
  return continuation_.take(last_);
}

bool Generation::step() {
  const bool is_first = last_ < 0;
  Clock::time_point start = Clock::now();
  const std::span<const float> logits = is_first ? feed_prompt() : feed_last();
  if (is_first) start = Clock::now();
  const bool more = take(logits);
  result().decode_seconds += seconds_since(start);
  return more;
}

bool Generation::step_after(std::span<const float> logits, double seconds) {
  SEPLLM_CHECK(pending() >= 0);
  const Clock::time_point start = Clock::now();
  const bool more = take(logits);
  result().decode_seconds += seconds + seconds_since(start);
  return more;
}

GenerateResult generate(Session& session, Sampler& sampler, const GenerateRequest& request,
                        const std::function<bool(const std::string&)>& on_text) {
  SEPLLM_CHECK(static_cast<size_t>(request.n_fed) < request.prompt.size());
  Generation generation(session, sampler, request, on_text);
  while (generation.step()) {
  }
  generation.finish();
  return std::move(generation.result());
}

}  // namespace sepllm
