#include "base/utf8.h"
#include "text/tokenizer.h"

namespace sepllm {

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, const std::vector<int32_t>& prefix,
                             bool skip_special)
    : tokenizer_(tokenizer), skip_special_(skip_special) {
  at_start_ = tokenizer.decode(prefix, skip_special).empty();
  if (!at_start_) return;
  for (const int32_t id : prefix) keep_for_start(id);
}

// What a format takes off the start of a text can depend on all tokens up to the first one that shows.
bool StreamDecoder::keep_for_start(int32_t id) {
  const bool silent = (skip_special_ && tokenizer_.is_special(id)) || tokenizer_.token_bytes(id).empty();
  if (!silent) start_.push_back(id);
  return !silent;
}

std::string StreamDecoder::push(int32_t id) {
  if (at_start_) {
    if (!keep_for_start(id)) return "";
    held_ = tokenizer_.decode(start_, skip_special_);
    at_start_ = held_.empty();
  } else if (!skip_special_ || !tokenizer_.is_special(id)) {
    held_ += tokenizer_.token_bytes(id);
  }
  const size_t ready = held_.size() - utf8_incomplete_tail(held_);
  std::string out = utf8_sanitize(std::string_view(held_).substr(0, ready));
  held_.erase(0, ready);
  return out;
}

std::string StreamDecoder::finish() {
  std::string out = utf8_sanitize(held_);
  held_.clear();
  return out;
}

}  // namespace sepllm
