#include "base/utf8.h"
#include "text/tokenizer.h"

namespace sepllm {

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, const std::vector<int32_t>& prefix,
                             bool skip_special)
    : tokenizer_(tokenizer), skip_special_(skip_special) {
  for (const int32_t id : prefix) bytes_of(id);
}

// The bytes that `id` adds to the decoded text. At the start of a text that is asked of decode() itself,
// since only the format knows whether a blank is dropped there.
std::string StreamDecoder::bytes_of(int32_t id) {
  if (!at_start_) return skip_special_ && tokenizer_.is_special(id) ? "" : tokenizer_.token_bytes(id);
  const size_t before = tokenizer_.decode(start_, skip_special_).size();
  start_.push_back(id);
  const std::string bytes = tokenizer_.decode(start_, skip_special_).substr(before);
  if (!tokenizer_.is_special(id) && !tokenizer_.token_bytes(id).empty()) {
    at_start_ = false;
    start_.clear();
  }
  return bytes;
}

std::string StreamDecoder::push(int32_t id) {
  held_ += bytes_of(id);
  const size_t whole = held_.size() - utf8_incomplete_tail(held_);
  const std::string out = utf8_sanitize(std::string_view(held_).substr(0, whole));
  held_.erase(0, whole);
  return out;
}

std::string StreamDecoder::finish() {
  const std::string out = utf8_sanitize(held_);
  held_.clear();
  return out;
}

}  // namespace sepllm
