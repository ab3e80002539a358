#include "text/steps/regex_class.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/utf8.h"
#include "text/steps/unicode_class.h"

namespace sepllm {
namespace {

struct CategoryName {
  const char* code;  // the same code as in PCRE2
  const char* name;  // in lower case, without underscores
};
// In the order of GeneralCategory.
constexpr std::array<CategoryName, 30> kCategoryNames = {{{"Cn", "unassigned"},
                                                          {"Lu", "uppercaseletter"},
                                                          {"Ll", "lowercaseletter"},
                                                          {"Lt", "titlecaseletter"},
                                                          {"Lm", "modifierletter"},
                                                          {"Lo", "otherletter"},
                                                          {"Mn", "nonspacingmark"},
                                                          {"Mc", "spacingmark"},
                                                          {"Me", "enclosingmark"},
                                                          {"Nd", "decimalnumber"},
                                                          {"Nl", "letternumber"},
                                                          {"No", "othernumber"},
                                                          {"Pc", "connectorpunctuation"},
                                                          {"Pd", "dashpunctuation"},
                                                          {"Ps", "openpunctuation"},
                                                          {"Pe", "closepunctuation"},
                                                          {"Pi", "initialpunctuation"},
                                                          {"Pf", "finalpunctuation"},
                                                          {"Po", "otherpunctuation"},
                                                          {"Sm", "mathsymbol"},
                                                          {"Sc", "currencysymbol"},
                                                          {"Sk", "modifiersymbol"},
                                                          {"So", "othersymbol"},
                                                          {"Zs", "spaceseparator"},
                                                          {"Zl", "lineseparator"},
                                                          {"Zp", "paragraphseparator"},
                                                          {"Cc", "control"},
                                                          {"Cf", "format"},
                                                          {"Cs", "surrogate"},
                                                          {"Co", "privateuse"}}};
constexpr std::array<CategoryName, 7> kGroupNames = {{{"L", "letter"},
                                                      {"M", "mark"},
                                                      {"N", "number"},
                                                      {"P", "punctuation"},
                                                      {"S", "symbol"},
                                                      {"Z", "separator"},
                                                      {"C", "other"}}};

const char* const kPosixPunct = ":punct:";  // not the name of a property

char ascii_lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

std::string folded(std::string_view name) {
  std::string out;
  for (const char c : name) {
    if (c != ' ' && c != '_' && c != '-') out += ascii_lower(c);
  }
  return out;
}

bool is_named(const CategoryName& category, const std::string& name) {
  return name == category.name || name == folded(category.code);
}

CodePointSet group_set(char group) { return category_group(group, UnicodeVersion::k16); }

CodePointSet both(const CodePointSet& a, const CodePointSet& b) { return a - (a - b); }

// The installed PCRE2 may have any version of Unicode from 9.0 on.
const CodePointSet& disputed() {
  static const CodePointSet set = disputed_set();
  return set;
}

const std::string& disputed_text() {
  static const std::string text = [] {
    std::string out;
    for (const CodePointRange& range : disputed().ranges()) {
      for (char32_t c = range.first; c <= range.last; ++c) utf8_append(out, c);
    }
    return out;
  }();
  return text;
}

// The disputed code points that PCRE2's `items` match.
CodePointSet disputed_members(const std::string& items) {
  const std::string pattern = "[" + items + "]";
  int error = 0;
  PCRE2_SIZE offset = 0;
  const std::unique_ptr<pcre2_code, decltype(&pcre2_code_free)> code(
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), PCRE2_UTF | PCRE2_UCP,
                    &error, &offset, nullptr),
      &pcre2_code_free);
  SEPLLM_CHECK(code != nullptr);
  pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);  // without the JIT the result is the same, only slower
  const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> data(
      pcre2_match_data_create(1, nullptr), &pcre2_match_data_free);
  SEPLLM_CHECK(data != nullptr);
  const std::string& text = disputed_text();
  std::vector<CodePointRange> members;
  for (size_t at = 0; pcre2_match(code.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at,
                                  PCRE2_NO_UTF_CHECK, data.get(), nullptr) > 0;) {
    const PCRE2_SIZE* span = pcre2_get_ovector_pointer(data.get());
    int length = 0;
    const char32_t c = decode_valid_utf8(text.data() + span[0], length);
    members.push_back({c, c});
    at = span[1];
  }
  return CodePointSet(std::move(members));
}

// Writes ranges for use between brackets. Surrogates are left out: PCRE2 refuses them, and no valid text has
// them.
std::string items_of(const CodePointSet& set) {
  std::string out;
  const CodePointSet valid = set - CodePointSet({{0xD800, 0xDFFF}});
  for (const CodePointRange& range : valid.ranges()) {
    out += fmt::format("\\x{{{:x}}}", static_cast<uint32_t>(range.first));
    if (range.last > range.first) out += fmt::format("-\\x{{{:x}}}", static_cast<uint32_t>(range.last));
  }
  return out;
}

}  // namespace

bool has_disputed(std::string_view text) {
  const uint8_t* classes = normalizer_classes();
  const char* p = text.data();
  const char* const end = p + text.size();
  while (p < end) {
    uint64_t eight = 0;
    if (end - p >= 8 && (std::memcpy(&eight, p, 8), (eight & 0x8080808080808080u) == 0)) {
      p += 8;
      continue;
    }
    int length = 0;
    if ((classes[decode_valid_utf8(p, length)] & kDisputed) != 0) return true;
    p += length;
  }
  return false;
}

struct RegexClass::Definition {
  std::string native;         // items of PCRE2, or empty
  CodePointSet native_in_16;  // the members of these items in Unicode 16.0
  CodePointSet more;          // additional members
  CodePointSet only_alone{};
};

std::optional<RegexClass::Definition> RegexClass::define(const std::string& name) {
  using enum GeneralCategory;
  const CodePointSet none;
  for (size_t k = 0; k < kCategoryNames.size(); ++k) {
    if (!is_named(kCategoryNames[k], name)) continue;
    const CodePointSet set = category_set({static_cast<GeneralCategory>(k)}, UnicodeVersion::k16);
    return Definition{fmt::format("\\p{{{}}}", kCategoryNames[k].code), set, none};
  }
  for (const CategoryName& group : kGroupNames) {
    if (!is_named(group, name)) continue;
    return Definition{fmt::format("\\p{{{}}}", group.code), group_set(group.code[0]), none};
  }
  if (name == "lc" || name == "l&" || name == "casedletter") {
    return Definition{"\\p{Lu}\\p{Ll}\\p{Lt}", category_set({kLu, kLl, kLt}, UnicodeVersion::k16), none};
  }
  const CodePointSet letters = group_set('L') | category_set({kNl}, UnicodeVersion::k16);
  const CodePointSet digits = category_set({kNd}, UnicodeVersion::k16);
  const CodePointSet other_alphabetic(kOtherAlphabetic16);
  // PCRE2's own Han also has punctuation that Han shares with other scripts.
  if (name == "han") return Definition{"", none, CodePointSet(kHan16)};
  if (name == "space" || name == "whitespace") return Definition{"", none, white_space_set()};
  if (name == "xdigit") return Definition{"", none, CodePointSet({{'0', '9'}, {'A', 'F'}, {'a', 'f'}})};
  if (name == "digit") return Definition{"\\p{Nd}", digits, none};
  if (name == "punct") return Definition{"\\p{P}", group_set('P'), none};
  if (name == kPosixPunct) return Definition{"\\p{P}\\p{S}", group_set('P') | group_set('S'), none};
  if (name == "alpha" || name == "alphabetic") {
    return Definition{"\\p{L}\\p{Nl}", letters, other_alphabetic};
  }
  if (name == "alnum") return Definition{"\\p{L}\\p{Nl}\\p{Nd}", letters | digits, other_alphabetic};
  if (name == "word") {
    return Definition{"\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}",
                      letters | group_set('M') | digits | category_set({kPc}, UnicodeVersion::k16),
                      other_alphabetic, CodePointSet({{0xB2, 0xB3}, {0xB9, 0xB9}, {0xBC, 0xBE}})};
  }
  return std::nullopt;
}

RegexClass::RegexClass(const Definition& definition)
    : native_(definition.native),
      members_(definition.native_in_16 | definition.more),
      only_alone_(definition.only_alone) {
  const CodePointSet more = definition.more - definition.native_in_16;
  extra_ = native_.empty() ? more : more - disputed();
  if (native_.empty()) return;
  const CodePointSet present = disputed_members(native_);
  missing_ = both(members_, disputed()) - present;
  excess_ = present - members_;
}

const RegexClass* RegexClass::find(std::string_view name) { return find_folded(folded(name)); }

const RegexClass* RegexClass::find_posix(std::string_view name) {
  return name == "punct" ? find_folded(kPosixPunct) : find(name);
}

const RegexClass* RegexClass::find_folded(const std::string& name) {
  static std::mutex mutex;
  static std::map<std::string, std::unique_ptr<RegexClass>> known;
  const std::lock_guard lock(mutex);
  if (const auto found = known.find(name); found != known.end()) return found->second.get();
  const auto definition = define(name);
  if (!definition) return nullptr;
  return known.emplace(name, std::unique_ptr<RegexClass>(new RegexClass(*definition))).first->second.get();
}

std::string RegexClass::outside_brackets(bool negated, RegexTexts texts) const {
  const char* open = negated ? "[^" : "[";
  const CodePointSet extra = extra_ | only_alone_;
  if (texts == RegexTexts::kUndisputed) return open + native_ + items_of(extra) + "]";
  const std::string items = native_ + items_of(extra | missing_);
  if (excess_.empty()) return open + items + "]";
  const std::string excess = "[" + items_of(excess_) + "]";
  return negated ? "(?:[^" + items + "]|" + excess + ")" : "(?:(?!" + excess + ")[" + items + "])";
}

std::string RegexClass::inside_brackets(bool negated, RegexTexts texts) const {
  const bool all = texts == RegexTexts::kAll;
  if (negated) {
    const bool one_property = native_.starts_with("\\p") && native_.find('\\', 1) == std::string::npos;
    if (!all && one_property && extra_.empty()) return "\\P" + native_.substr(2);
    return items_of(members_.complement());
  }
  if (!all) return native_ + items_of(extra_);
  return excess_.empty() ? native_ + items_of(extra_ | missing_) : items_of(members_);
}

}  // namespace sepllm
