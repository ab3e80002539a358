#include "text/corpus/json_array.h"

#include <fmt/format.h>

#include <cstddef>
#include <string>
#include <string_view>

#include "base/error.h"

namespace sepllm {
namespace {

bool is_array_blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

}  // namespace

void JsonArrayLines::refuse(const std::string& message) const {
  throw Error(ErrorCode::kBadFile, message, {.file = file_, .place = fmt::format("element {}", element_)});
}

void JsonArrayLines::feed(std::string_view bytes, std::string* lines) {
  for (size_t at = 0; at < bytes.size(); ++at) {
    if (!in_string_) {
      feed_structure(bytes[at], lines);
      continue;
    }
    if (escaped_) {
      escaped_ = false;
    } else if (bytes[at] == '"') {
      in_string_ = false;
    } else if (bytes[at] == '\\') {
      escaped_ = true;
    }
    // A line break is not valid inside a string. It must not end the line, so it is replaced by another
    // control character, which is refused in the same way.
    *lines += bytes[at] == '\n' ? '\r' : bytes[at];
  }
}

void JsonArrayLines::feed_structure(char c, std::string* lines) {
  if (is_array_blank(c)) {
    if (has_content_) *lines += ' ';
    return;
  }
  if (state_ == State::kBehind) {
    throw Error(ErrorCode::kBadFile, "something follows the JSON array", {.file = file_, .got = {c}});
  }
  if (state_ == State::kBefore) {
    if (c != '[') refuse("not a JSON array");
    state_ = State::kInside;
    return;
  }
  if (closing_.empty() && (c == ',' || c == ']')) return end_element(c == ']', lines);
  if (c == '{' || c == '[') closing_ += c == '{' ? '}' : ']';
  if (c == '}' || c == ']') {
    if (!closing_.ends_with(c)) refuse("brackets that do not match in a JSON array");
    closing_.pop_back();
  }
  in_string_ = c == '"';
  has_content_ = true;
  *lines += c;
}

void JsonArrayLines::end_element(bool last, std::string* lines) {
  if (!has_content_ && !(last && element_ == 1)) refuse("an empty element in a JSON array");
  if (has_content_) *lines += '\n';
  if (last) state_ = State::kBehind;
  has_content_ = false;
  ++element_;
}

void JsonArrayLines::finish() const {
  if (state_ != State::kBehind) refuse("the JSON array is cut off");
}

}  // namespace sepllm
