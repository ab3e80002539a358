#include "engine/generator.h"

#include <algorithm>
#include <chrono>

#include "base/check.h"
#include "base/error.h"
#include "base/utf8.h"

namespace sepllm {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Holds back the end of the text while it may still become a stop string.
class StopFilter {
 public:
  explicit StopFilter(const std::vector<std::string>& stops) {
    for (const std::string& s : stops) {
      if (!s.empty()) stops_.push_back(s);
    }
  }

  // Text that is certain now; sets stopped() where a stop string is complete.
  std::string push(const std::string& text) {
    held_ += text;
    size_t first = std::string::npos;
    for (const std::string& s : stops_) first = std::min(first, held_.find(s));
    if (first != std::string::npos) {
      stopped_ = true;
      return take(first);
    }
    size_t keep = 0;
    for (const std::string& s : stops_) keep = std::max(keep, overlap(s));
    return take(held_.size() - keep);
  }
  std::string finish() { return take(held_.size()); }
  bool stopped() const { return stopped_; }

 private:
  // Longest end of the held text that begins `stop`.
  size_t overlap(const std::string& stop) const {
    for (size_t n = std::min(stop.size() - 1, held_.size()); n > 0; --n) {
      if (held_.compare(held_.size() - n, n, stop, 0, n) == 0) return n;
    }
    return 0;
  }
  std::string take(size_t n) {
    std::string out = held_.substr(0, n);
    held_.erase(0, n);
    return out;
  }

  std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace

double GenerateResult::decode_tokens_per_second() const {
  // The first new token comes from the prefill's logits: decoding makes the others.
  return decode_seconds > 0 && ids.size() > 1 ? static_cast<double>(ids.size() - 1) / decode_seconds : 0.0;
}

GenerateResult generate(Session& session, Sampler& sampler, const GenerateRequest& request,
                        const std::function<bool(const std::string&)>& on_text) {
  SEPLLM_CHECK(!request.prompt.empty());
  GenerateResult result;
  result.prompt_tokens = static_cast<int64_t>(request.prompt.size());
  result.finish_reason = "length";
  const Tokenizer* tokenizer = session.model().tokenizer.get();
  std::optional<StreamDecoder> decoder;
  if (tokenizer != nullptr) decoder.emplace(*tokenizer, request.prompt, request.skip_special);
  StopFilter filter(request.stop_strings);
  const auto show = [&](const std::string& text) {
    result.text += text;
    if (!text.empty() && on_text && !on_text(text)) result.finish_reason = "cancelled";
  };

  constexpr int64_t kAhead = 1024;  // new tokens that the cache has room for from the start
  session.cache().reserve(result.prompt_tokens + std::min(request.max_new_tokens, kAhead));
  Clock::time_point start = Clock::now();
  const auto go_on = [&] { return !request.go_on || request.go_on(); };
  std::span<const float> logits = session.advance(request.prompt, go_on);
  if (logits.empty()) result.finish_reason = "cancelled";
  result.prefill_seconds = seconds_since(start);
  start = Clock::now();
  std::vector<int32_t> seen = request.prompt;
  while (!logits.empty() && static_cast<int64_t>(result.ids.size()) < request.max_new_tokens) {
    const int32_t id = sampler.sample(logits, seen);
    const bool stops =
        std::find(request.stop_ids.begin(), request.stop_ids.end(), id) != request.stop_ids.end();
    if (stops && !request.ignore_eos) {
      result.finish_reason = "stop";
      break;
    }
    result.ids.push_back(id);
    seen.push_back(id);
    if (decoder) show(filter.push(decoder->push(id)));
    if (filter.stopped()) result.finish_reason = "stop";
    if (result.finish_reason != "length" || static_cast<int64_t>(result.ids.size()) == request.max_new_tokens)
      break;
    try {
      logits = session.advance({&id, 1}, go_on);
      if (logits.empty()) result.finish_reason = "cancelled";
    } catch (const Error&) {
      result.finish_reason = "error";
      result.failure = std::current_exception();
      break;
    }
  }
  result.decode_seconds = seconds_since(start);
  if (decoder && !filter.stopped() && result.finish_reason != "cancelled") {
    // What is left of a character that never became whole may complete a stop string too.
    show(filter.push(decoder->finish()));
    if (filter.stopped()) {
      result.finish_reason = "stop";
    } else {
      show(filter.finish());
    }
  }
  return result;
}

}  // namespace sepllm
