#include "text/steps/unicode_class.h"

#include <utf8proc.h>

#include <memory>

namespace sepllm {
namespace {

constexpr char32_t kCodePoints = 0x110000;

bool is_white_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

bool is_ascii_punctuation(char32_t c) {
  return (c >= 0x21 && c <= 0x2F) || (c >= 0x3A && c <= 0x40) || (c >= 0x5B && c <= 0x60) ||
         (c >= 0x7B && c <= 0x7E);
}

uint8_t flags_of_category(utf8proc_category_t category) {
  switch (category) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return kLetter | kWord;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
      return kWord;
    case UTF8PROC_CATEGORY_ND:
      return kNumber | kWord | kDecimal;
    case UTF8PROC_CATEGORY_NL:
      return kNumber | kWord;
    case UTF8PROC_CATEGORY_NO:
      return kNumber;
    case UTF8PROC_CATEGORY_PC:
      return kPunctuation | kWord;
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
      return kPunctuation;
    default:
      return 0;
  }
}

std::unique_ptr<uint8_t[]> build() {
  auto table = std::make_unique<uint8_t[]>(kCodePoints);
  for (char32_t c = 0; c < kCodePoints; ++c) {
    uint8_t flags = flags_of_category(utf8proc_category(static_cast<utf8proc_int32_t>(c)));
    if (is_ascii_punctuation(c)) flags |= kPunctuation;
    if (is_white_space(c)) flags |= kSpace;
    if ((flags & (kLetter | kNumber | kSpace)) == 0) flags |= kOther;
    table[c] = flags;
  }
  return table;
}

}  // namespace

const uint8_t* unicode_classes() {
  static const std::unique_ptr<uint8_t[]> table = build();
  return table.get();
}

}  // namespace sepllm
