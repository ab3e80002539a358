#include "base/json.h"

#include <gtest/gtest.h>

#include "tests/support/expect_error.h"

namespace sepllm {
namespace {

using test::expect_error;

void expect_bad(const std::string& text, const std::vector<std::string>& parts) {
  expect_error([&] { parse_json(text, "f.json"); }, ErrorCode::kBadFile, parts);
}

TEST(Json, KeepsTheOrderOfMembers) {
  EXPECT_EQ(parse_json(R"({"b":1,"a":[true,null,"x"]})", "f").dump(), R"({"b":1,"a":[true,null,"x"]})");
  EXPECT_EQ(parse_json(" 7 ", "f"), Json(7));
  EXPECT_EQ(parse_json("[[],{}]", "f").dump(), "[[],{}]");
}

TEST(Json, SyntaxErrorsNameTheByte) {
  expect_bad("", {"f.json", "not valid JSON"});
  expect_bad("{", {"byte 2"});
  expect_bad("{} x", {"f.json", "byte 4"});
  expect_bad("{'a':1}", {"not valid JSON"});
  expect_bad("[1,]", {"not valid JSON"});
  expect_bad("NaN", {"not valid JSON"});
  expect_bad("1e999", {"not valid JSON"});
  expect_bad(R"("\ud800")", {"not valid JSON"});
  expect_bad("\"a\xff\"", {"invalid UTF-8", "byte 2"});
  expect_bad(std::string("{}\0", 3), {"not valid JSON"});
}

TEST(Json, DuplicateKeysAreErrorsAtEveryDepth) {
  expect_bad(R"({"a":1,"a":2})", {"duplicate key", "a"});
  expect_bad(R"([{"x":{"b":1,"c":{},"b":2}}])", {"duplicate key", "b"});
  expect_bad(R"({"a":1,"\u0061":2})", {"duplicate key"});
  EXPECT_NO_THROW(parse_json(R"({"a":{"a":1},"b":{"a":1}})", "f"));
}

TEST(Json, DepthIsLimited) {
  const auto nested = [](int n) { return std::string(n, '[') + std::string(n, ']'); };
  EXPECT_NO_THROW(parse_json(nested(64), "f"));
  expect_bad(nested(70), {"nested too deeply"});
  expect_bad(std::string(5'000'000, '['), {"nested too deeply"});
}

TEST(Json, ManyMembersTakeLinearTime) {
  std::string text = "{";
  for (int i = 0; i < 300'000; ++i) text += (i == 0 ? "\"" : ",\"") + std::to_string(i) + "\":{}";
  EXPECT_EQ(parse_json(text + "}", "f").size(), 300'000U);
}

class JsonObjectTest : public testing::Test {
 protected:
  Json json_ = parse_json(
      R"({"i":3,"f":4.0,"h":0.5,"neg":-1,"big":1e300,"u":18446744073709551615,"s":"x","b":true,"n":null,)"
      R"("o":{"k":"v"}})",
      "f.json");
  JsonObject object_{json_, "f.json"};
};

TEST_F(JsonObjectTest, ReadsValues) {
  EXPECT_EQ(object_.integer("i", 0, 3), 3);
  EXPECT_EQ(object_.integer("f", 0, 10), 4);
  EXPECT_EQ(object_.integer_or("none", 7, 0, 1), 7);
  EXPECT_EQ(object_.integer_or("n", 7, 0, 1), 7);
  EXPECT_EQ(object_.number("h"), 0.5);
  EXPECT_EQ(object_.number("i"), 3.0);
  EXPECT_TRUE(object_.boolean_or("b", false));
  EXPECT_EQ(object_.string("s"), "x");
  EXPECT_EQ(object_.object("o").string("k"), "v");
  EXPECT_FALSE(object_.has("n"));
  EXPECT_TRUE(object_.at("n").is_null());
}

TEST_F(JsonObjectTest, WrongValuesNameKeyExpectedAndGot) {
  const auto bad = [&](auto call, const std::vector<std::string>& parts) {
    expect_error(call, ErrorCode::kBadFile, parts);
  };
  bad([&] { object_.integer("h", 0, 9); }, {"f.json", "h", "an integer from 0 to 9", "0.5"});
  bad([&] { object_.integer("i", 4, 9); }, {"i", "from 4 to 9", "got 3"});
  bad([&] { object_.integer("neg", 0, 9); }, {"neg", "-1"});
  bad([&] { object_.integer("big", 0, INT64_MAX); }, {"big"});
  bad([&] { object_.integer("u", 0, INT64_MAX); }, {"u", "18446744073709551615"});
  bad([&] { object_.integer("s", 0, 9); }, {"s", "\"x\""});
  bad([&] { object_.integer("n", 0, 9); }, {"n", "null"});
  bad([&] { object_.number("b"); }, {"b", "a finite number", "true"});
  bad([&] { object_.boolean_or("i", true); }, {"i", "true or false"});
  bad([&] { object_.string("i"); }, {"i", "a string"});
  bad([&] { object_.object("i"); }, {"i", "a JSON object"});
  bad([&] { object_.object("o").integer("k", 0, 1); }, {"o.k"});
  bad([&] { JsonObject(Json::array(), "f.json"); }, {"f.json", "a JSON object", "[]"});
  expect_error([&] { object_.object("o").string("none"); }, ErrorCode::kNotFound, {"o.none", "missing key"});
}

}  // namespace
}  // namespace sepllm
