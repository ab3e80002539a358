#include "base/error.h"

#include <gtest/gtest.h>

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
  // A cut inside a character leaves valid UTF-8.
  std::string wide = "y";
  for (int k = 0; k < 1000; ++k) wide += "é";
  EXPECT_EQ(utf8_find_invalid(what("wrong", {.got = wide})), std::nullopt);
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
