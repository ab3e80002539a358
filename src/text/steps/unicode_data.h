// Data of the Unicode Character Database, in the versions that the tokenizer libraries have
// (unicode_class.h). unicode_data.cc is made by oracles/make_unicode_tables.mjs.
#pragma once

#include <cstdint>
#include <span>

#include "text/steps/code_point_set.h"

namespace sepllm {

enum class GeneralCategory : uint8_t {
  kCn,  // unassigned
  kLu,
  kLl,
  kLt,
  kLm,
  kLo,
  kMn,
  kMc,
  kMe,
  kNd,
  kNl,
  kNo,
  kPc,
  kPd,
  kPs,
  kPe,
  kPi,
  kPf,
  kPo,
  kSm,
  kSc,
  kSk,
  kSo,
  kZs,
  kZl,
  kZp,
  kCc,
  kCf,
  kCs,
  kCo
};

struct CategoryRange {
  char32_t first, last;
  uint8_t category;
};

// Every `step`-th code point from `first` to `last` has the lower case c + shift.
struct LowerCaseRange {
  char32_t first, last;
  int32_t step, shift;
};

// Unicode 17.0: the length of each run of one category, << 5, with its category, from U+0000 to U+10FFFF.
extern const std::span<const uint32_t> kCategories17;
// What an older version says where it differs from the next newer one.
extern const std::span<const CategoryRange> kChanges16, kChanges9, kChanges8;
extern const std::span<const CodePointRange> kOtherAlphabetic16, kHan16;
extern const std::span<const LowerCaseRange> kLowerCase17;

}  // namespace sepllm
