#include "base/utf8.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "base/check.h"

namespace sepllm {
namespace {

bool is_scalar(char32_t c) { return c <= 0x10FFFF && (c < 0xD800 || c > 0xDFFF); }

TEST(Utf8, EveryScalarValueSurvives) {
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (!is_scalar(c)) continue;
    std::string text;
    utf8_append(text, c);
    const auto back = utf8_decode(text);
    ASSERT_TRUE(back) << static_cast<uint32_t>(c);
    ASSERT_EQ(back->code_point, c);
    ASSERT_EQ(static_cast<size_t>(back->length), text.size());
  }
  std::string text;
  EXPECT_THROW(utf8_append(text, 0xD800), CheckFailure);
  EXPECT_THROW(utf8_append(text, 0x110000), CheckFailure);
}

TEST(Utf8, InvalidSequencesAreFoundWhereTheyBegin) {
  EXPECT_EQ(utf8_find_invalid("h\xC3\xB6ren \xF0\x9F\x98\x80"), std::nullopt);
  EXPECT_EQ(utf8_find_invalid(""), std::nullopt);
  for (const char* bad :
       {"\x80", "\xBF", "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF",
        "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "\xC3", "\xE2\x82", "\xC3("}) {
    EXPECT_EQ(utf8_find_invalid(std::string("ab\xC3\xB6") + bad), 4u) << bad;
    EXPECT_EQ(utf8_decode(bad), std::nullopt);
  }
}

TEST(Utf8, OnlyWhatMoreBytesCouldFinishIsATail) {
  EXPECT_EQ(utf8_incomplete_tail(""), 0u);
  EXPECT_EQ(utf8_incomplete_tail("a\xC3\xB6"), 0u);
  EXPECT_EQ(utf8_incomplete_tail("a\xC3"), 1u);
  EXPECT_EQ(utf8_incomplete_tail("a\xE2\x82"), 2u);
  EXPECT_EQ(utf8_incomplete_tail("\xF0\x9F\x98"), 3u);
  EXPECT_EQ(utf8_incomplete_tail("\xF0\x9F\x98\x80"), 0u);
  EXPECT_EQ(utf8_incomplete_tail("\xE0\x80"), 0u);  // overlong: no further byte can make it valid
  EXPECT_EQ(utf8_incomplete_tail("\x82\x82\x82"), 0u);
  EXPECT_EQ(utf8_incomplete_tail("\xFF"), 0u);
}

TEST(Utf8, SanitizingReplacesEachMaximalInvalidPart) {
  EXPECT_EQ(utf8_sanitize("a\xC3\xB6"), "a\xC3\xB6");
  EXPECT_EQ(utf8_sanitize("\xE2\x82z"), "\uFFFDz");
  EXPECT_EQ(utf8_sanitize("\xF0\x9F\x98"), "\uFFFD");
  EXPECT_EQ(utf8_sanitize("\xFF\xFE"), "\uFFFD\uFFFD");
  EXPECT_EQ(utf8_sanitize("\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD");  // a surrogate, as Python and Rust do
}

}  // namespace
}  // namespace sepllm
