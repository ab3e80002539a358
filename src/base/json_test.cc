#include "base/json.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/utf8.h"
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
  expect_bad("", {"f.json", "not valid JSON", "the end"});
  expect_bad("{", {"byte 2"});
  expect_bad("{} x", {"f.json", "byte 4", "something follows", "'x'"});
  expect_bad("{'a':1}", {"not valid JSON", "a key in quotes", "''a''"});
  expect_bad("[1,]", {"not valid JSON", "expected a value", "byte 4"});
  expect_bad("{\n \"a\": 1,\n \"b\" 2\n}\n", {"line 3, column 6", "expected ':'", "'2'"});
  expect_bad("{\"a\": \"b\n\"}", {"line 1, column 9", "a control character"});
  expect_bad("[\"a, 1]", {"byte 2", "a string without an end"});
  expect_bad("{\"a\": truthy}", {"byte 7", "expected a value", "'truthy'"});
  expect_bad("\"a\xff\"", {"invalid UTF-8", "byte 3"});
  expect_bad(std::string("{}\0", 3), {"not valid JSON"});
}

const Json& golden() {
  static const std::string path = std::string(SEPLLM_SOURCE_DIR) + "/tests/golden/json/python.json";
  static const Json json = parse_json(read_file(path), path);
  return json;
}

// The value as Python would write it, or null if it is refused.
Json reading(const std::string& text) {
  JsonOddities unused;
  try {
    return python_json_text(parse_json(text, "f", {}, &unused), 1);
  } catch (const Error&) {
    return nullptr;
  }
}

// tests/golden/make_json_golden.py
TEST(Json, ReadsAsPython) {
  ASSERT_GT(golden().at("values").size(), 100U);
  for (const Json& entry : golden().at("values")) {
    EXPECT_EQ(reading(entry[0].get<std::string>()), entry[1]) << entry[0];
  }
  for (const Json& entry : golden().at("numbers")) {
    JsonOddities unused;
    const Json value = parse_json(entry[0].get<std::string>(), "f", {}, &unused);
    EXPECT_EQ(value.get<double>(), std::strtod(entry[1].get<std::string>().c_str(), nullptr)) << entry[0];
  }
}

std::vector<std::string> characters(std::string_view text) {
  std::vector<std::string> out;
  for (; !text.empty(); text.remove_prefix(out.back().size())) {
    out.emplace_back(text.substr(0, static_cast<size_t>(utf8_decode(text)->length)));
  }
  return out;
}

TEST(Json, EveryChangeOfATextIsReadOrRefusedAsPythonDoes) {
  const auto alphabet = characters(golden().at("alphabet").get<std::string>());
  for (const Json& entry : golden().at("changes")) {
    const auto text = characters(entry[0].get<std::string>());
    const auto python = entry[1].get<std::string>();
    size_t n = 0;
    const auto try_it = [&](size_t keep, const std::string& put, size_t from) {
      std::string changed;
      for (size_t i = 0; i < keep; ++i) changed += text[i];
      changed += put;
      for (size_t i = from; i < text.size(); ++i) changed += text[i];
      ASSERT_LT(n, python.size());
      EXPECT_EQ(!reading(changed).is_null(), python[n++] == '1') << changed;
    };
    for (size_t keep = 0; keep <= text.size(); ++keep) try_it(keep, "", text.size());
    for (size_t at = 0; at < text.size(); ++at) {
      try_it(at, "", at + 1);
      for (const std::string& put : alphabet) try_it(at, put, at + 1);
    }
    EXPECT_EQ(n, python.size());
  }
}

// The warnings that `run` logs.
std::vector<std::string> warnings_of(const std::function<void()>& run) {
  std::vector<std::string> lines;
  LogSink old = set_log_sink([&](LogLevel, const std::string& text) { lines.push_back(text); });
  run();
  set_log_sink(std::move(old));
  return lines;
}

TEST(Json, WhatIsNoJsonLeadsToOneWarning) {
  const auto warnings = [](const std::string& text) {
    return warnings_of([&] { parse_json(text, "f.json"); });
  };
  EXPECT_EQ(warnings(R"({"a": 1, "b": [1e5, -0.0]})"), std::vector<std::string>());
  EXPECT_EQ(warnings(R"({"a": {"limit": [0.0, Infinity]}})"),
            std::vector<std::string>{
                "f.json: a.limit[1]: Infinity is no number in JSON; read as Python's json does"});
  EXPECT_EQ(
      warnings(R"({"id": 1, "x": {"id": 2, "id": 3}, "n": NaN, "id": 4})"),
      std::vector<std::string>{"f.json: x.id: the key occurs twice; the last one counts (and 2 more such "
                               "places); read as Python's json does"});
  JsonOddities oddities;
  EXPECT_EQ(warnings_of([&] { parse_json("[NaN, NaN]", "f", {}, &oddities); }), std::vector<std::string>());
  EXPECT_EQ(oddities.count, 2);
  EXPECT_EQ(oddities.first, "[0]: NaN is no number in JSON");
}

TEST(Json, DuplicatesAreErrorsWhereTheyWouldHideAMistake) {
  const auto fails = [](const std::string& text, const std::string& key) {
    expect_error([&] { parse_json(text, "f.json", {.refuse_duplicates = true}); }, ErrorCode::kBadFile,
                 {"f.json", "duplicate key", key});
  };
  fails(R"({"a":1,"a":2})", "a");
  fails(R"([{"x":{"b":1,"c":{},"b":2}}])", "[0].x.b");
  fails(R"({"a":1,"\u0061":2})", "a");
  EXPECT_NO_THROW(parse_json(R"({"a":{"a":1},"b":{"a":1}})", "f", {.refuse_duplicates = true}));
}

TEST(Json, LoneSurrogatesAreErrorsOrKept) {
  for (const char* text : {R"("a\ud83d b")", R"("\udc00")", R"("\ud83d\ud83d")", R"("\ud83dx\ude00")"}) {
    expect_bad(text, {"a lone surrogate", "byte"});
    EXPECT_FALSE(reading(text).is_string());
  }
  const auto kept = [](const char* text) {
    return parse_json(text, "f", {.keep_surrogates = true}).get<std::string>();
  };
  EXPECT_EQ(kept(R"("a\ud83d b")"), "a\xed\xa0\xbd b");  // Python's encode("utf-8", "surrogatepass")
  EXPECT_EQ(kept(R"("\ud83d\ud83d\ude00\udc00")"), "\xed\xa0\xbd\U0001f600\xed\xb0\x80");
}

TEST(Json, TextIsNeverAnException) {
  const Json bad = {{"a\xff", "\xed\xa0\xbd"}, {"n", NAN}, {"l", {INFINITY, -INFINITY, Json::array()}}};
  EXPECT_EQ(json_text(bad), "{\"a\ufffd\":\"\ufffd\ufffd\ufffd\",\"n\":null,\"l\":[null,null,[]]}");
  EXPECT_EQ(python_json_text(bad),
            "{\"a\ufffd\":\"\ufffd\ufffd\ufffd\",\"n\":NaN,\"l\":[Infinity,-Infinity,[]]}");
  const Json plain = {{"a", {1, {{"b", "c"}}, Json::object()}}, {"d", 0.5}};
  EXPECT_EQ(python_json_text(plain), plain.dump());
  EXPECT_EQ(python_json_text(plain, 1), plain.dump(1));
}

// The library's own exceptions become ours: what a check forgot is a bug, and is reported as one.
TEST(Json, TheLibraryThrowsOurType) {
  const Json list = Json::array({1});
  EXPECT_THROW(list.get<std::string>(), JsonFault);
  EXPECT_THROW(list.at("a"), JsonFault);
  EXPECT_THROW(static_cast<void>(Json("\xff").dump()), JsonFault);
  Json out;
  EXPECT_THROW(out = Json::parse("{"), CheckFailure);
}

TEST(Json, NullForALineThatWasCutOff) {
  EXPECT_EQ(json_or_null("{\"step\": 1}"), (Json{{"step", 1}}));
  EXPECT_EQ(json_or_null("{\"step\": "), Json());
  EXPECT_EQ(json_or_null(""), Json());
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
      R"({"i":3,"f":4.0,"h":0.5,"neg":-1,"big":1e300,"nan":NaN,"inf":-Infinity,"u":18446744073709551615,"s":"x","b":true,"n":null,)"
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
  bad([&] { object_.number("nan"); }, {"nan", "a finite number", "got NaN"});
  bad([&] { object_.number("inf"); }, {"inf", "a finite number", "got -Infinity"});
  bad([&] { object_.integer("nan", 0, 9); }, {"nan", "an integer", "got NaN"});
  bad([&] { object_.boolean_or("nan", true); }, {"nan", "true or false", "got NaN"});
  bad([&] { object_.string("inf"); }, {"inf", "a string", "got -Infinity"});
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
