#include "text/blanks.h"

#include <cstddef>
#include <optional>
#include <string_view>

#include "base/utf8.h"

namespace sepllm {
namespace {

// Bytes of the last code point of `text`, or nullopt if it does not end in valid UTF-8.
std::optional<Utf8Char> last_character(std::string_view text) {
  for (size_t back = 1; back <= 4 && back <= text.size(); ++back) {
    const auto c = utf8_decode(text.substr(text.size() - back));
    if (c && static_cast<size_t>(c->length) == back) return c;
  }
  return std::nullopt;
}

}  // namespace

bool is_blank(char32_t c) {
  return (c >= 0x9 && c <= 0xD) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

std::string_view trim_blanks(std::string_view text) {
  for (auto c = utf8_decode(text); c && is_blank(c->code_point); c = utf8_decode(text)) {
    text.remove_prefix(static_cast<size_t>(c->length));
  }
  for (auto c = last_character(text); c && is_blank(c->code_point); c = last_character(text)) {
    text.remove_suffix(static_cast<size_t>(c->length));
  }
  return text;
}

}  // namespace sepllm
