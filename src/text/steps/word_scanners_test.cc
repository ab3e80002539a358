#include "text/steps/word_scanners.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <ios>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/utf8.h"
#include "text/steps/regex.h"
#include "text/steps/split_pattern.h"
#include "text/steps/unicode_class.h"

namespace sepllm {
namespace {

// Characters at which the patterns decide, and some of each class.
std::string random_text(std::mt19937& rng, size_t n) {
  static const std::vector<std::string> parts = {
      " ",      " ",      "\n",     "\r",     "\t",     "'",          "s",      "S",       "t",
      "re",     "VE",     "ll",     "m",      "d",      "a",          "Z",      "1",       "2",
      "!",      "-",      "\u017F", "\u00A0", "\u3000", "\u2028",     "\u0085", "\u180E",  "\u4F60",
      "\u0663", "\u00B2", "\u0301", "\u20AC", "\u00E9", "\U0001F600", "\u2019", "\u0000x", "K"};
  std::string text;
  for (size_t k = 0; k < n; ++k) text += parts[rng() % parts.size()];
  return text;
}

void expect_tiles(std::string_view text, const Regex& regex, WordScanner scanner) {
  RegexScratch scratch;
  for (size_t at = 0; at < text.size();) {
    const auto match = regex.find(text, at, scratch);
    ASSERT_TRUE(match);
    ASSERT_EQ(match->begin, at);
    ASSERT_EQ(scanner(text, at), match->end) << "at " << at << " of " << text;
    at = match->end;
  }
}

std::string one_digit(std::string pattern) { return pattern.replace(pattern.find("{1,3}"), 5, ""); }

TEST(WordScanners, EqualTheirPatterns) {
  for (const std::string& pattern :
       {std::string(kGpt2Pattern), std::string(kLlama3Pattern), one_digit(kLlama3Pattern)}) {
    const Regex regex(pattern, "test", "pattern");
    const WordScanner scanner = find_word_scanner(pattern);
    ASSERT_NE(scanner, nullptr) << pattern;
    std::mt19937 rng(7);
    for (int round = 0; round < 5000; ++round) expect_tiles(random_text(rng, 1 + rng() % 12), regex, scanner);
  }
}

TEST(WordScanners, EqualTheirPatternsForEveryCharacter) {
  for (const char* pattern : {kGpt2Pattern, kLlama3Pattern}) {
    const Regex regex(pattern, "test", "pattern");
    const WordScanner scanner = find_word_scanner(pattern);
    for (char32_t c = 0; c <= 0x33FFF; ++c) {
      if (c >= 0xD800 && c <= 0xDFFF) continue;
      std::string text = "a";
      utf8_append(text, c);
      text += "a 1";
      utf8_append(text, c);
      text += " ";
      utf8_append(text, c);
      utf8_append(text, c);
      text += "\n";
      utf8_append(text, c);
      expect_tiles(text, regex, scanner);
      if (HasFatalFailure()) FAIL() << "U+" << std::hex << static_cast<uint32_t>(c);
    }
  }
}

TEST(WordScanners, OtherPatternsHaveNone) { EXPECT_EQ(find_word_scanner(R"(\p{L}+)"), nullptr); }

TEST(WordScanners, AreLinearInLongRuns) {
  std::string text(10 << 20, ' ');
  text[0] = '\n';
  text += "x";
  for (const WordScanner scanner : {find_word_scanner(kGpt2Pattern), find_word_scanner(kLlama3Pattern)}) {
    size_t words = 0;
    for (size_t at = 0; at < text.size(); ++words) at = scanner(text, at);
    EXPECT_LE(words, 3u);
  }
}

TEST(Regex, SpacesAreThoseOfUnicode) {
  const Regex space(R"(\s)", "f", "p");
  const Regex other(R"([^\S\n])", "f", "p");
  const Regex not_space(R"(\S)", "f", "p");
  RegexScratch scratch;
  for (char32_t c = 0; c <= 0x3100; ++c) {
    std::string text;
    utf8_append(text, c);
    const bool white = (unicode_classes()[c] & kSpace) != 0;
    EXPECT_EQ(space.find(text, 0, scratch).has_value(), white) << static_cast<uint32_t>(c);
    EXPECT_EQ(other.find(text, 0, scratch).has_value(), white && c != '\n') << static_cast<uint32_t>(c);
    EXPECT_EQ(not_space.find(text, 0, scratch).has_value(), !white) << static_cast<uint32_t>(c);
  }
}

TEST(Regex, RefusesWhatItCannotDoAsOnigurumaDoes) {
  for (const char* pattern :
       {"[a-z&&[^b]]", "[a[bc]]", "(a", "a{2,1}", "[z-a]", R"(\C)", R"(\p{Nonsense})"}) {
    try {
      const Regex regex(pattern, "file.json", "the.key");
      FAIL() << pattern;
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find("file.json: the.key"), std::string::npos) << e.what();
    }
  }
}

TEST(Regex, EndlessBacktrackingIsAnError) {
  const Regex regex("^(a|aa)+$", "f", "p");
  RegexScratch scratch;
  EXPECT_THROW(regex.find(std::string(200, 'a') + "b", 0, scratch), Error);
}

}  // namespace
}  // namespace sepllm
