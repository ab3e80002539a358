#include "engine/generator.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <span>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/error.h"
#include "engine/continuation.h"

namespace sepllm {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

GenerateResult generate(Session& session, Sampler& sampler, const GenerateRequest& request,
                        const std::function<bool(const std::string&)>& on_text) {
  SEPLLM_CHECK(request.n_fed >= 0 && static_cast<size_t>(request.n_fed) < request.prompt.size());
  Continuation continuation(session.model(), request, sampler.recent_tokens(), on_text);
  GenerateResult& result = continuation.result();

  constexpr int64_t kAhead = 1024;  // the number of new tokens that the cache has room for from the start
  session.cache().reserve(result.prompt_tokens + std::min(request.max_new_tokens, kAhead));
  Clock::time_point start = Clock::now();
  const auto go_on = [&] { return !request.go_on || request.go_on(); };
  std::span<const float> logits =
      session.advance(std::span(request.prompt).subspan(static_cast<size_t>(request.n_fed)), go_on);
  if (logits.empty()) continuation.end(FinishReason::kCancelled);
  result.prefill_seconds = seconds_since(start);
  start = Clock::now();
  while (!continuation.ended()) {
    const int32_t id = sampler.sample(logits, continuation.recent());
    if (!continuation.take(id)) break;
    try {
      logits = session.advance({&id, 1}, go_on);
      if (logits.empty()) continuation.end(FinishReason::kCancelled);
    } catch (const Error&) {
      continuation.end(FinishReason::kError, std::current_exception());
    }
  }
  result.decode_seconds = seconds_since(start);
  continuation.finish();
  return std::move(result);
}

}  // namespace sepllm
