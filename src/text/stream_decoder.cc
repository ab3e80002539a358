#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/utf8.h"
#include "text/tokenizer.h"

namespace sepllm {

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, const std::vector<int32_t>& prefix,
                             bool skip_special)
    : tokenizer_(tokenizer), skip_special_(skip_special) {
  for (const int32_t id : prefix) bytes_of(id);
  last_end_.clear();  // it has been shown
}

// For formats whose last token differs: the part of a token that does not depend on what follows.
std::string StreamDecoder::bytes_with_end(int32_t id) {
  const bool left_out =
      id < 0 || id >= tokenizer_.vocab_size() || (skip_special_ && tokenizer_.is_special(id));
  if (left_out) return "";
  const std::string inner = tokenizer_.token_bytes(id);
  const std::string last = tokenizer_.last_token_bytes(id);
  const auto same = std::mismatch(inner.begin(), inner.end(), last.begin(), last.end());
  const std::string bytes = inner_end_ + std::string(inner.begin(), same.first);
  inner_end_.assign(same.first, inner.end());
  last_end_.assign(same.second, last.end());
  return bytes;
}

// The bytes that `id` adds to the decoded text. At the start of a text decode() itself is asked, because only
// the format knows whether a blank is dropped there.
std::string StreamDecoder::bytes_of(int32_t id) {
  if (tokenizer_.last_token_differs()) return bytes_with_end(id);
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
  const std::string out = utf8_sanitize(held_ + last_end_);
  held_.clear();
  last_end_.clear();
  return out;
}

}  // namespace sepllm
