// The classes of all code points, as the `tokenizers` library has them
// (tests/golden/tokenizers/character_classes.json, made by oracles/make_character_classes.py).
#include "text/steps/unicode_class.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <ios>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/utf8.h"
#include "tests/support/support.h"
#include "text/steps/normalizer.h"

namespace sepllm {
namespace {

// All planes with assigned characters that differ, and some code points of the others.
bool is_looked_at(char32_t c) {
  if (c >= 0xD800 && c <= 0xDFFF) return false;
  return c < 0x34000 || (c >= 0xE0000 && c < 0xE1000) || c % 997 == 0;
}

using Test = std::function<bool(char32_t)>;

std::string text_of(char32_t c) {
  std::string text;
  utf8_append(text, c);
  return text;
}

Test has(const uint8_t* classes, uint8_t flag) {
  return [classes, flag](char32_t c) { return (classes[c] & flag) != 0; };
}

Test in(const CodePointSet& set) {
  return [set](char32_t c) { return set.contains(c); };
}

// Whether a normal form changes the character.
Test changed_by(NormalForm form) {
  const std::shared_ptr<NormalizerStep> step = make_unicode_normalizer(form);
  return [step, scratch = std::make_shared<RegexScratch>()](char32_t c) {
    std::string out;
    return step->apply(text_of(c), out, *scratch) && out != text_of(c);
  };
}

// Whether NFD puts it before U+0345, whose combining class is the highest.
Test reordered() {
  const std::shared_ptr<NormalizerStep> step = make_unicode_normalizer(NormalForm::kNfd);
  return [step, scratch = std::make_shared<RegexScratch>()](char32_t c) {
    std::string out;
    return step->apply("\u0345" + text_of(c), out, *scratch) && out.ends_with("\u0345");
  };
}

std::map<std::string, Test> tests() {
  using enum GeneralCategory;
  const uint8_t* classes = unicode_classes();
  const uint8_t* normalizers = normalizer_classes();
  const auto group = [](char name) { return in(category_group(name, UnicodeVersion::k16)); };
  const auto category = [](GeneralCategory c) { return in(category_set({c}, UnicodeVersion::k16)); };
  return {{"regex \\p{L}", has(classes, kLetter)},
          {"regex \\p{N}", has(classes, kNumber)},
          {"regex \\s", has(classes, kSpace)},
          {"regex \\d", category(kNd)},
          {"regex \\p{P}", group('P')},
          {"regex \\p{S}", group('S')},
          {"regex \\p{M}", group('M')},
          {"regex \\p{Lu}", category(kLu)},
          {"regex \\p{Ll}", category(kLl)},
          {"regex \\p{Lm}", category(kLm)},
          {"regex \\p{Lo}", category(kLo)},
          {"regex \\p{Mn}", category(kMn)},
          {"Digits", has(classes, kNumeric)},
          {"Punctuation", has(classes, kPunctuation)},
          {"single_word", has(classes, kWord)},
          {"StripAccents", has(normalizers, kMark)},
          {"BertNormalizer strip_accents", has(normalizers, kNonspacingMark)},
          {"NFC", changed_by(NormalForm::kNfc)},
          {"NFD", changed_by(NormalForm::kNfd)},
          {"NFKC", changed_by(NormalForm::kNfkc)},
          {"NFKD", changed_by(NormalForm::kNfkd)},
          {"reordered", reordered()},
          // NUL and U+FFFD are removed for other reasons.
          {"BertNormalizer clean_text",
           [normalizers](char32_t c) { return (normalizers[c] & kControl) != 0 || c == 0xFFFD; }}};
}

// Calls fn(c, is member) for each code point; `runs` as the golden file has them.
void for_each_member(const nlohmann::json& runs, const std::function<void(char32_t, bool)>& fn) {
  char32_t c = 0;
  bool inside = false;
  for (const auto& length : runs) {
    for (const char32_t end = c + length.get<char32_t>(); c < end; ++c) {
      if (is_looked_at(c)) fn(c, inside);
    }
    inside = !inside;
  }
  EXPECT_EQ(c, 0x110000u);
}

nlohmann::json golden() {
  return nlohmann::json::parse(
      read_file(std::string(SEPLLM_SOURCE_DIR) + "/tests/golden/tokenizers/character_classes.json"));
}

TEST(UnicodeClass, EqualsTheTokenizersLibraryForEveryCodePoint) {
  const nlohmann::json sets = golden().at("sets");
  for (const auto& [name, test] : tests()) {
    int differing = 0;
    for_each_member(sets.at(name), [&, &test = test](char32_t c, bool expected) {
      if (test(c) == expected || ++differing > 3) return;
      ADD_FAILURE() << "U+" << std::hex << static_cast<uint32_t>(c) << " in " << expected;
    });
    EXPECT_EQ(differing, 0) << name;
  }
}

// The members of a regular expression that matches single characters, among all or the undisputed ones.
std::vector<bool> matched_by(const Regex& regex, RegexTexts texts) {
  const bool all = texts == RegexTexts::kAll;
  std::string text;
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (!is_looked_at(c)) continue;
    if (all || (normalizer_classes()[c] & kDisputed) == 0) utf8_append(text, c);
  }
  RegexScratch scratch;
  scratch.look_at(text);
  EXPECT_EQ(scratch.texts(), texts);
  std::vector<bool> members(0x110000);
  for (auto match = regex.find(text, 0, scratch); match; match = regex.find(text, match->end, scratch)) {
    int length = 0;
    members[decode_valid_utf8(text.data() + match->begin, length)] = true;
  }
  return members;
}

TEST(UnicodeClass, PatternsHaveTheMembersThatOnigurumaGivesThem) {
  const nlohmann::json sets = golden().at("sets");
  int patterns = 0;
  for (const auto& [name, runs] : sets.items()) {
    if (!name.starts_with("regex ")) continue;
    ++patterns;
    const Regex regex(name.substr(6), "test", "pattern");
    const std::vector<bool> members = matched_by(regex, RegexTexts::kAll);
    const std::vector<bool> undisputed = matched_by(regex, RegexTexts::kUndisputed);
    int differing = 0;
    for_each_member(runs, [&](char32_t c, bool expected) {
      const bool disputed = (normalizer_classes()[c] & kDisputed) != 0;
      if (members[c] == expected && (disputed || undisputed[c] == expected)) return;
      if (++differing <= 3)
        ADD_FAILURE() << "U+" << std::hex << static_cast<uint32_t>(c) << " in " << expected;
    });
    EXPECT_EQ(differing, 0) << name;
  }
  EXPECT_EQ(patterns, 24);
}

TEST(UnicodeClass, LowerCaseEqualsTheTokenizersLibrary) {
  std::map<char32_t, char32_t> lower;
  const nlohmann::json pairs = golden().at("lower case");
  for (const auto& pair : pairs) lower[pair[0].get<char32_t>()] = pair[1].get<char32_t>();
  ASSERT_GT(lower.size(), 1400u);
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    const auto found = lower.find(c);
    if (c == 0x130) continue;  // becomes two characters
    ASSERT_EQ(to_lower_case(c), found == lower.end() ? c : found->second) << static_cast<uint32_t>(c);
  }
}

TEST(CodePointSet, Operations) {
  const auto text = [](const CodePointSet& set) {
    std::string out;
    for (const CodePointRange& r : set.ranges())
      out += std::to_string(r.first) + "-" + std::to_string(r.last) + " ";
    return out;
  };
  const CodePointSet a(std::vector<CodePointRange>{{10, 20}, {5, 7}, {21, 22}, {15, 16}});
  const CodePointSet b(std::vector<CodePointRange>{{0, 5}, {12, 13}, {22, 30}});
  EXPECT_EQ(text(a), "5-7 10-22 ");
  EXPECT_EQ(text(a | b), "0-7 10-30 ");
  EXPECT_EQ(text(a - b), "6-7 10-11 14-21 ");
  EXPECT_EQ(text(a.complement()), "0-4 8-9 23-1114111 ");
  EXPECT_EQ(text(a.complement().complement()), text(a));
  EXPECT_EQ(text(a - a), "");
  EXPECT_EQ(text(CodePointSet().complement()), "0-1114111 ");
  EXPECT_TRUE(a.contains(5) && a.contains(22) && !a.contains(4) && !a.contains(8) && !a.contains(23));
}

}  // namespace
}  // namespace sepllm
