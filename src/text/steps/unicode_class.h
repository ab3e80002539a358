// Character classes that steps of a tokenizer ask for, as flags of each code point.
//
// They change with the version of Unicode, and the libraries that define the tokenizers do not agree on one.
// Found by asking `tokenizers` 0.23.3 and tiktoken 0.14.0 for every code point
// (oracles/make_character_classes.py):
// - 16.0: the regular expressions of patterns (Oniguruma 6.9.10; Rust's regex in tiktoken) and of added
// tokens.
// - 17.0: Rust's own characters: the step Digits, lower case.
// - 9.0: the crate unicode-normalization-alignments: NFC, NFD, NFKC, NFKD, StripAccents.
// - 8.0: the crate unicode_categories: Punctuation and the steps of BERT.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "base/utf8.h"
#include "text/steps/code_point_set.h"
#include "text/steps/unicode_data.h"

namespace sepllm {

enum class UnicodeVersion { k8, k9, k16, k17 };

// The code points whose category is one of `categories` in that version.
CodePointSet category_set(std::initializer_list<GeneralCategory> categories, UnicodeVersion version);
// The categories whose two-letter names begin with `group`: L, M, N, P, S, Z or C. Empty for another letter.
CodePointSet category_group(char group, UnicodeVersion version);
CodePointSet white_space_set();  // the property White_Space: the same in all four versions

// Code points that do not have the same category in 9.0, 16.0 and 17.0.
CodePointSet disputed_set();

// Flags of unicode_classes(), used by patterns and pre-tokenizers.
enum UnicodeClass : uint8_t {
  kLetter = 1,        // \p{L} (16.0)
  kNumber = 2,        // \p{N} (16.0)
  kSpace = 4,         // \s: White_Space
  kOther = 8,         // none of the three above
  kPunctuation = 16,  // \p{P} (8.0) and the ASCII symbols $+<=>^`|~
  kWord = 32,         // \w of Rust's regex (16.0): Alphabetic, \p{M}, \p{Nd}, \p{Pc}, Join_Control
  kNumeric = 64       // \p{N} (17.0), used by the step Digits
};

// Flags of normalizer_classes(), used by normalizers.
enum NormalizerClass : uint8_t {
  kMark = 1,            // \p{M} (9.0), which StripAccents removes
  kNonspacingMark = 2,  // \p{Mn} (8.0), which BertNormalizer removes
  kControl = 4,         // \p{Cc}, \p{Cf}, \p{Co} (8.0), which BertNormalizer removes, except \t, \n, \r
  kNotNormalized = 8,   // unassigned in 9.0: no normal form changes it or joins it to another
  kDisputed = 16        // disputed_set()
};

// Flags of every code point up to U+10FFFF (built once, at the first call).
const uint8_t* unicode_classes();
const uint8_t* normalizer_classes();

// The code point's lower case (Simple_Lowercase_Mapping, 17.0), or itself.
char32_t to_lower_case(char32_t c);

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
