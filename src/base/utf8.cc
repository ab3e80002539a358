#include "base/utf8.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/check.h"

namespace sepllm {
namespace {

struct Lead {
  int length;              // 0: not a lead byte
  unsigned char min, max;  // allowed range of the second byte
};

Lead classify(unsigned char c) {
  if (c < 0x80) return {1, 0, 0};
  if (c < 0xC2) return {0, 0, 0};
  if (c < 0xE0) return {2, 0x80, 0xBF};
  if (c == 0xE0) return {3, 0xA0, 0xBF};
  if (c == 0xED) return {3, 0x80, 0x9F};
  if (c < 0xF0) return {3, 0x80, 0xBF};
  if (c == 0xF0) return {4, 0x90, 0xBF};
  if (c < 0xF4) return {4, 0x80, 0xBF};
  if (c == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

// A prefix of one sequence at the start of `text`: the length of its longest valid part (at least 1 if text
// is not empty), and whether the sequence is complete.
struct Prefix {
  size_t length;
  bool whole;
};

Prefix valid_prefix(std::string_view text) {
  const Lead lead = classify(static_cast<unsigned char>(text[0]));
  if (lead.length == 0) return {1, false};
  for (int k = 1; k < lead.length; ++k) {
    if (static_cast<size_t>(k) >= text.size()) return {text.size(), false};
    const auto c = static_cast<unsigned char>(text[k]);
    const unsigned char min = k == 1 ? lead.min : 0x80;
    const unsigned char max = k == 1 ? lead.max : 0xBF;
    if (c < min || c > max) return {static_cast<size_t>(k), false};
  }
  return {static_cast<size_t>(lead.length), true};
}

}  // namespace

std::optional<Utf8Char> utf8_decode(std::string_view text) {
  if (text.empty()) return std::nullopt;
  const Prefix prefix = valid_prefix(text);
  if (!prefix.whole) return std::nullopt;
  const auto first = static_cast<unsigned char>(text[0]);
  const int length = static_cast<int>(prefix.length);
  if (length == 1) return Utf8Char{first, 1};
  char32_t code = first & (0x7Fu >> length);
  for (int k = 1; k < length; ++k) code = (code << 6) | (static_cast<unsigned char>(text[k]) & 0x3Fu);
  return Utf8Char{code, length};
}

void utf8_append(std::string& out, char32_t c) {
  SEPLLM_CHECK(c <= 0x10FFFF && (c < 0xD800 || c > 0xDFFF));
  const auto put = [&](char32_t byte) { out += static_cast<char>(byte); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | (c >> 6));
    put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | (c >> 12));
    put(0x80 | ((c >> 6) & 0x3F));
    put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | (c >> 18));
    put(0x80 | ((c >> 12) & 0x3F));
    put(0x80 | ((c >> 6) & 0x3F));
    put(0x80 | (c & 0x3F));
  }
}

std::optional<size_t> utf8_find_invalid(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    const Prefix prefix = valid_prefix(text.substr(at));
    if (!prefix.whole) return at;
    at += prefix.length;
  }
  return std::nullopt;
}

size_t utf8_incomplete_tail(std::string_view text) {
  for (size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const std::string_view tail = text.substr(text.size() - back);
    if ((static_cast<unsigned char>(tail[0]) & 0xC0) == 0x80) continue;
    const Prefix prefix = valid_prefix(tail);
    const bool could_go_on =
        !prefix.whole && prefix.length == tail.size() &&
        classify(static_cast<unsigned char>(tail[0])).length > static_cast<int>(tail.size());
    return could_go_on ? back : 0;
  }
  return 0;
}

std::string line_and_byte(std::string_view text, size_t at, int64_t first_line) {
  const std::string_view before = text.substr(0, at);
  const size_t line_start = before.rfind('\n') + 1;  // npos + 1 = 0
  return "line " + std::to_string(first_line + std::count(before.begin(), before.end(), '\n')) + ", byte " +
         std::to_string(at - line_start + 1) + " of it";
}

std::string utf8_sanitize(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  size_t at = 0;
  while (at < text.size()) {
    const Prefix prefix = valid_prefix(text.substr(at));
    if (prefix.whole) {
      out += text.substr(at, prefix.length);
    } else {
      out += "\xEF\xBF\xBD";
    }
    at += prefix.length;
  }
  return out;
}

}  // namespace sepllm
