#include "engine/continuation.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace sepllm {

const char* finish_reason_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kLength:
      return "length";
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kCancelled:
      return "cancelled";
    case FinishReason::kError:
      return "error";
  }
  return "?";
}

// Holds back the end of the text as long as it may become a stop string.
class Continuation::StopFilter {
 public:
  explicit StopFilter(const std::vector<std::string>& stops) {
    for (const std::string& s : stops) {
      if (!s.empty()) stops_.push_back(s);
    }
  }

  // Returns the text that is now certain; sets stopped() when a stop string is complete.
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
  // Length of the longest end of the held text that is a beginning of `stop`.
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

Continuation::Continuation(const Model& model, const GenerateRequest& request, int64_t recent,
                           std::function<bool(const std::string&)> on_text)
    : request_(request),
      on_text_(std::move(on_text)),
      filter_(std::make_unique<StopFilter>(request.stop_strings)),
      recent_(recent) {
  result_.prompt_tokens = static_cast<int64_t>(request.prompt.size());
  if (model.tokenizer)
    decoder_ = std::make_unique<StreamDecoder>(*model.tokenizer, request.prompt, request.skip_special);
  recent_.add(request.before);
  recent_.add(request.prompt);
}

Continuation::~Continuation() = default;
Continuation::Continuation(Continuation&&) noexcept = default;

bool Continuation::take(int32_t id) {
  const std::vector<int32_t>& stops = request_.stop_ids;
  if (!request_.ignore_eos && std::find(stops.begin(), stops.end(), id) != stops.end()) {
    result_.stop_token = true;
    end(FinishReason::kStop);
    return false;
  }
  ++result_.new_tokens;
  if (request_.keep) result_.ids.push_back(id);
  recent_.add(id);
  if (decoder_) show(filter_->push(decoder_->push(id)));
  if (filter_->stopped()) end(FinishReason::kStop);
  return !ended();
}

void Continuation::show(const std::string& text) {
  if (request_.keep) result_.text += text;
  if (!text.empty() && on_text_ && !on_text_(text)) end(FinishReason::kCancelled);
}

void Continuation::end(FinishReason reason, std::exception_ptr failure) {
  ended_ = true;
  result_.finish_reason = reason;
  result_.failure = std::move(failure);
}

void Continuation::finish() {
  if (!decoder_ || filter_->stopped() || result_.finish_reason == FinishReason::kCancelled) return;
  // The bytes of an unfinished character may complete a stop string, too.
  show(filter_->push(decoder_->finish()));
  if (filter_->stopped()) {
    end(FinishReason::kStop);
  } else {
    show(filter_->finish());
  }
}

}  // namespace sepllm
