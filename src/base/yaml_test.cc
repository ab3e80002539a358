#include "base/yaml.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/support/expect_error.h"

namespace sepllm {
namespace {

TEST(Yaml, BytesThatAreNoUtf8AreErrorsWithTheirPlace) {
  const auto fails = [](const std::string& text, const std::string& place) {
    test::expect_error([&] { parse_yaml(text, "run.yaml"); }, ErrorCode::kBadFile,
                       {"run.yaml", place, "invalid UTF-8"});
  };
  fails("lr: \xff\n", "line 1, byte 5 of it");
  fails("lr: 1\ndata: [a, {b: \x96\x9e}]\n", "line 2, byte 15 of it");
  fails("lr: 1\n\xb1: 2\n", "line 2, byte 1 of it");
  fails("# a comment in Latin-1: \xe9t\xe9\nlr: 1\n", "line 1, byte 25 of it");
  EXPECT_EQ(parse_yaml("save: r\u00e9sultat\n", "run.yaml").at("save"), "r\u00e9sultat");
}

}  // namespace
}  // namespace sepllm
