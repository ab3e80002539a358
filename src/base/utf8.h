// UTF-8: validation, and what to print when it is not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sepllm {

// A decoded code point and its length in bytes.
struct Utf8Char {
  char32_t code_point;
  int length;  // 1 to 4
};

// Decodes the code point at the start of `text`; nullopt if it is empty or does not start with a valid
// sequence (overlong forms, surrogates and values above U+10FFFF are invalid).
std::optional<Utf8Char> utf8_decode(std::string_view text);

// Decodes the character at `p`, which must be the start of one in valid UTF-8; sets its length.
inline char32_t decode_valid_utf8(const char* p, int& length) {
  const auto byte = [p](int k) { return static_cast<char32_t>(static_cast<unsigned char>(p[k])); };
  const char32_t c = byte(0);
  if (c < 0x80) {
    length = 1;
    return c;
  }
  if (c < 0xE0) {
    length = 2;
    return ((c & 0x1F) << 6) | (byte(1) & 0x3F);
  }
  if (c < 0xF0) {
    length = 3;
    return ((c & 0x0F) << 12) | ((byte(1) & 0x3F) << 6) | (byte(2) & 0x3F);
  }
  length = 4;
  return ((c & 0x07) << 18) | ((byte(1) & 0x3F) << 12) | ((byte(2) & 0x3F) << 6) | (byte(3) & 0x3F);
}

// Appends the UTF-8 form of a valid code point.
void utf8_append(std::string& out, char32_t code_point);

// Byte offset of the first invalid sequence, or nullopt if all of `text` is valid.
std::optional<size_t> utf8_find_invalid(std::string_view text);

// Number of bytes at the end of `text` that begin a sequence which more bytes could complete (0 to 3).
size_t utf8_incomplete_tail(std::string_view text);

// Describes where byte `at` of a text is: "line 3, byte 7 of it", both counted from 1; the text begins with
// line `first_line`.
std::string line_and_byte(std::string_view text, size_t at, int64_t first_line = 1);

// `text` with each maximal invalid part replaced by U+FFFD (as the Unicode standard recommends, and Python
// and Rust do).
std::string utf8_sanitize(std::string_view text);

}  // namespace sepllm
