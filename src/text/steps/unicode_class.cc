#include "text/steps/unicode_class.h"

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace sepllm {
namespace {

using enum GeneralCategory;

constexpr char32_t kCodePoints = 0x110000;
constexpr int kCategoryBits = 5;
// The first letter of each category's name, in the order of GeneralCategory.
constexpr std::string_view kGroups = "CLLLLLMMMNNNPPPPPPPSSSSZZZCCCC";

// A bit for each category.
using CategoryMask = uint32_t;
constexpr CategoryMask bit(uint32_t category) { return CategoryMask{1} << category; }
constexpr CategoryMask bit(GeneralCategory category) { return bit(static_cast<uint32_t>(category)); }

CodePointSet set_in_17(CategoryMask mask) {
  std::vector<CodePointRange> ranges;
  char32_t begin = 0;
  for (const uint32_t run : kCategories17) {
    const char32_t end = begin + (run >> kCategoryBits);
    if ((bit(run & ((1u << kCategoryBits) - 1)) & mask) != 0) ranges.push_back({begin, end - 1});
    begin = end;
  }
  return CodePointSet(std::move(ranges));
}

// The set `newer`, as it is in the older version.
CodePointSet before(std::span<const CategoryRange> changes, CategoryMask mask, const CodePointSet& newer) {
  std::vector<CodePointRange> changed;
  std::vector<CodePointRange> members;
  for (const CategoryRange& range : changes) {
    changed.push_back({range.first, range.last});
    if ((bit(range.category) & mask) != 0) members.push_back({range.first, range.last});
  }
  return (newer - CodePointSet(std::move(changed))) | CodePointSet(std::move(members));
}

CodePointSet set_of_mask(CategoryMask mask, UnicodeVersion version) {
  CodePointSet set = set_in_17(mask);
  if (version <= UnicodeVersion::k16) set = before(kChanges16, mask, set);
  if (version <= UnicodeVersion::k9) set = before(kChanges9, mask, set);
  if (version <= UnicodeVersion::k8) set = before(kChanges8, mask, set);
  return set;
}

CodePointSet ascii_punctuation() {
  return CodePointSet(std::vector<CodePointRange>{{0x21, 0x2F}, {0x3A, 0x40}, {0x5B, 0x60}, {0x7B, 0x7E}});
}

CodePointSet word_set() {
  const CodePointSet join_control(std::vector<CodePointRange>{{0x200C, 0x200D}});
  return category_set({kLu, kLl, kLt, kLm, kLo, kMn, kMc, kMe, kNd, kNl, kPc}, UnicodeVersion::k16) |
         CodePointSet(kOtherAlphabetic16) | join_control;
}

using FlagTable = std::unique_ptr<uint8_t[]>;

void set_flag(FlagTable& table, uint8_t flag, const CodePointSet& set) {
  for (const CodePointRange& range : set.ranges()) {
    for (char32_t c = range.first; c <= range.last; ++c) table[c] |= flag;
  }
}

FlagTable build_classes() {
  auto table = std::make_unique<uint8_t[]>(kCodePoints);
  const CodePointSet letters = category_group('L', UnicodeVersion::k16);
  const CodePointSet numbers = category_group('N', UnicodeVersion::k16);
  const CodePointSet spaces = white_space_set();
  set_flag(table, kLetter, letters);
  set_flag(table, kNumber, numbers);
  set_flag(table, kSpace, spaces);
  set_flag(table, kOther, (letters | numbers | spaces).complement());
  set_flag(table, kPunctuation, category_group('P', UnicodeVersion::k8) | ascii_punctuation());
  set_flag(table, kWord, word_set());
  set_flag(table, kNumeric, category_group('N', UnicodeVersion::k17));
  return table;
}

FlagTable build_normalizer_classes() {
  auto table = std::make_unique<uint8_t[]>(kCodePoints);
  const CodePointSet line_blanks(std::vector<CodePointRange>{{'\t', '\n'}, {'\r', '\r'}});
  set_flag(table, kMark, category_group('M', UnicodeVersion::k9));
  set_flag(table, kNonspacingMark, category_set({kMn}, UnicodeVersion::k8));
  set_flag(table, kControl, category_set({kCc, kCf, kCo}, UnicodeVersion::k8) - line_blanks);
  set_flag(table, kNotNormalized, category_set({kCn}, UnicodeVersion::k9));
  set_flag(table, kDisputed, disputed_set());
  return table;
}

}  // namespace

CodePointSet category_set(std::initializer_list<GeneralCategory> categories, UnicodeVersion version) {
  CategoryMask mask = 0;
  for (const GeneralCategory category : categories) mask |= bit(category);
  return set_of_mask(mask, version);
}

CodePointSet category_group(char group, UnicodeVersion version) {
  CategoryMask mask = 0;
  for (uint32_t k = 0; k < kGroups.size(); ++k) {
    if (kGroups[k] == group) mask |= bit(k);
  }
  return set_of_mask(mask, version);
}

CodePointSet white_space_set() {
  return CodePointSet(std::vector<CodePointRange>{{0x09, 0x0D},
                                                  {0x20, 0x20},
                                                  {0x85, 0x85},
                                                  {0xA0, 0xA0},
                                                  {0x1680, 0x1680},
                                                  {0x2000, 0x200A},
                                                  {0x2028, 0x2029},
                                                  {0x202F, 0x202F},
                                                  {0x205F, 0x205F},
                                                  {0x3000, 0x3000}});
}

CodePointSet disputed_set() {
  std::vector<CodePointRange> ranges;
  for (const auto& changes : {kChanges9, kChanges16}) {
    for (const CategoryRange& range : changes) ranges.push_back({range.first, range.last});
  }
  return CodePointSet(std::move(ranges));
}

const uint8_t* unicode_classes() {
  static const FlagTable table = build_classes();
  return table.get();
}

const uint8_t* normalizer_classes() {
  static const FlagTable table = build_normalizer_classes();
  return table.get();
}

char32_t to_lower_case(char32_t c) {
  if (c < 0x80) return c >= 'A' && c <= 'Z' ? c + 32 : c;
  const auto after =
      std::upper_bound(kLowerCase17.begin(), kLowerCase17.end(), c,
                       [](char32_t point, const LowerCaseRange& r) { return point < r.first; });
  const LowerCaseRange& range = *(after - 1);  // the first range is A to Z
  if (c > range.last || (c - range.first) % static_cast<char32_t>(range.step) != 0) return c;
  return static_cast<char32_t>(static_cast<int32_t>(c) + range.shift);
}

}  // namespace sepllm
