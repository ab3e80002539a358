// Character classes that pre-tokenizers ask for, as one byte of flags per code point.
#pragma once

#include <cstdint>
#include <string_view>

namespace sepllm {

enum UnicodeClass : uint8_t {
  kLetter = 1,        // \p{L}
  kNumber = 2,        // \p{N}
  kSpace = 4,         // White_Space
  kOther = 8,         // none of the three above
  kPunctuation = 16,  // \p{P} and the ASCII symbols $+<=>^`|~
  kWord = 32,         // \w: letters, marks, decimal and letter numbers, connectors
  kDecimal = 64       // \p{Nd}
};

// Flags of every code point up to U+10FFFF (built once, at the first call; Unicode version of utf8proc).
const uint8_t* unicode_classes();

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

// The first place from `p` on whose character has none of the flags `mask`.
inline const char* skip_class(const char* p, const char* end, const uint8_t* classes, uint8_t mask) {
  while (p < end) {
    int length = 0;
    if ((classes[decode_valid_utf8(p, length)] & mask) == 0) return p;
    p += length;
  }
  return p;
}

// The start of the last character before `p`.
inline const char* previous_char(const char* p) {
  do --p;
  while ((static_cast<unsigned char>(*p) & 0xC0) == 0x80);
  return p;
}

}  // namespace sepllm
