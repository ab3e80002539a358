#include "base/error.h"

#include <gtest/gtest.h>

#include <optional>
#include <string>

#include "base/check.h"
#include "base/utf8.h"

namespace sepllm {
namespace {

std::string what(const std::string& message, const ErrorDetail& detail) {
  return Error(ErrorCode::kBadFile, message, detail).what();
}

TEST(Error, PutsAllPartsInOneLine) {
  EXPECT_EQ(what("wrong value",
                 {.file = "config.json", .place = "a.b", .expected = "1", .got = "2", .hint = "try 1"}),
            "config.json: a.b: wrong value (expected 1, got 2); try 1");
  EXPECT_EQ(what("broken", {}), "broken");
  EXPECT_EQ(what("broken", {.expected = "x"}), "broken (expected x)");
  EXPECT_EQ(what("broken", {.got = "y"}), "broken (got y)");
  EXPECT_EQ(Error(ErrorCode::kIo, "x").code(), ErrorCode::kIo);
}

TEST(Error, EscapesWhatWouldBreakTheLineOrTheTerminal) {
  const std::string text = what("a\nb", {.file = "f\x1b[31m", .got = std::string("\0\x7f\r", 3)});
  EXPECT_EQ(text, "f\\x1b[31m: a\\x0ab (got \\x00\\x7f\\x0d)");
  EXPECT_EQ(what("caf\xC3\xA9", {}), "café");
  EXPECT_EQ(utf8_find_invalid(what("bad \xFF\xC3", {})), std::nullopt);
}

TEST(Error, CutsLongQuotes) {
  const std::string text = what("wrong", {.got = std::string(1 << 20, 'x')});
  EXPECT_LT(text.size(), 1000U);
  EXPECT_TRUE(text.ends_with("...)"));
  // The cut must not fall inside a character: the result is valid UTF-8.
  std::string wide = "y";
  for (int k = 0; k < 1000; ++k) wide += "é";
  EXPECT_EQ(utf8_find_invalid(what("wrong", {.got = wide})), std::nullopt);
}

// Options are data: each edge writes them in the way that its users know.
TEST(Error, NamesOptionsAsEachEdgeWritesThem) {
  const auto dashed = [](const Error& e) {
    return write_options(e.marked_text(), [](const std::string& name) { return "--" + name; });
  };
  const Error two(ErrorCode::kInvalidArgument,
                  option_name("init") + " must be below " + option_name("capacity"),
                  {.got = "9", .hint = "try a smaller " + option_name("init")});
  EXPECT_STREQ(two.what(), "init must be below capacity (got 9); try a smaller init");
  EXPECT_EQ(dashed(two), "--init must be below --capacity (got 9); try a smaller --init");
  EXPECT_EQ(two.option(), "init");
  const Error place(ErrorCode::kBadFile, "bad", {.file = "f", .place = option_name("kv")});
  EXPECT_EQ(dashed(place), "f: --kv: bad");
  EXPECT_EQ(place.option(), "kv");
  // A hint may name an option, but the error is then not about that option.
  EXPECT_EQ(Error(ErrorCode::kBadFile, "bad", {.hint = option_name("kv")}).option(), "");
  // An Error built from another one's text keeps the marks; marks without a name between them are escaped.
  EXPECT_EQ(dashed(Error(ErrorCode::kIo, "again: " + two.marked_text())), "again: " + dashed(two));
  for (const char* bad : {"\x0e", "\x0f", "\x0e\x0f", "\x0e--\n\x0f", "\x0einit", "\x0e a\x0f"})
    EXPECT_EQ(dashed(Error(ErrorCode::kIo, bad)).find_first_of("\x0e\x0f"), std::string::npos) << bad;
}

TEST(Check, ThrowsWithThePlace) {
  EXPECT_NO_THROW(SEPLLM_CHECK(1 + 1 == 2));
  try {
    SEPLLM_CHECK(1 + 1 == 3);
    FAIL();
  } catch (const CheckFailure& e) {
    EXPECT_NE(std::string(e.what()).find("1 + 1 == 3"), std::string::npos);
    EXPECT_NE(std::string(e.what()).find("error_test.cc"), std::string::npos);
  }
}

}  // namespace
}  // namespace sepllm
