#include "base/options.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/error.h"
#include "tests/support/expect_error.h"

namespace sepllm {
namespace {

struct Values {
  int64_t count = 4;
  double rate = 0.5;
  std::string name = "x", mode = "fast";
  std::vector<std::string> files;
  bool quiet = false;
};

OptionSet options_for(Values* v) {
  OptionSet options;
  options.add_int("count", &v->count, 0, 100, "how many");
  options.add_double("rate", &v->rate, 0, 2, "how fast");
  options.add_string("name", &v->name, "what");
  options.add_choice("mode", &v->mode, {"fast", "slow"}, "how");
  options.add_strings("file", &v->files, "which");
  options.add_flag("quiet", &v->quiet, "no output");
  return options;
}

std::string error_of(OptionSet& options, const std::string& name, const std::string& value) {
  try {
    options.set(name, value);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kInvalidArgument);
    return e.what();
  }
  return "";
}

TEST(Options, SetValuesOfEachKind) {
  Values v;
  OptionSet options = options_for(&v);
  EXPECT_FALSE(options.was_set("count"));
  options.set("count", "7");
  options.set("rate", "1.25e-1");
  options.set("name", "a b");
  options.set("mode", "slow");
  options.set("file", "one");
  options.set("file", "two");
  options.set("quiet", "true");
  EXPECT_EQ(v.count, 7);
  EXPECT_EQ(v.rate, 0.125);
  EXPECT_EQ(v.name, "a b");
  EXPECT_EQ(v.mode, "slow");
  EXPECT_EQ(v.files, (std::vector<std::string>{"one", "two"}));
  EXPECT_TRUE(v.quiet);
  EXPECT_TRUE(options.was_set("count"));
  EXPECT_EQ(options.to_json().dump(),
            R"({"count":7,"rate":0.125,"name":"a b","mode":"slow","file":["one","two"],"quiet":true})");
}

TEST(Options, RefuseWrongValuesAndKeepTheOldOnes) {
  Values v;
  OptionSet options = options_for(&v);
  for (const char* bad : {"", "x", "-1", "101", "7x", "7.5", " 7", "99999999999999999999"}) {
    EXPECT_NE(error_of(options, "count", bad).find("for count"), std::string::npos) << bad;
  }
  for (const char* bad : {"", "nan", "inf", "-0.1", "2.1", "1e999", "0,5"}) {
    EXPECT_NE(error_of(options, "rate", bad), "") << bad;
  }
  EXPECT_EQ(error_of(options, "mode", "medium"), "wrong value for mode (expected fast|slow, got 'medium')");
  EXPECT_NE(error_of(options, "quiet", "yes"), "");
  EXPECT_EQ(v.count, 4);
  EXPECT_EQ(v.rate, 0.5);
  EXPECT_FALSE(options.was_set("count"));
}

TEST(Options, DefaultsAreThoseOfTheDeclaration) {
  Values v;
  OptionSet options = options_for(&v);
  options.set("count", "7");
  const auto text = [&](size_t i) { return options.options()[i].default_text(); };
  EXPECT_EQ(text(0), "4");
  EXPECT_EQ(text(1), "0.5");
  EXPECT_EQ(text(2), "x");
  EXPECT_EQ(text(3), "fast");
  EXPECT_EQ(text(4), "") << "a list";
  EXPECT_EQ(text(5), "") << "a flag";
  options.add_int("cores", &v.count, 0, 9, "how many").default_note = "all";
  EXPECT_EQ(text(6), "all");
  options.add_int("steps", &v.count, 0, 9, "how many").default_value = {};
  EXPECT_EQ(text(7), "");
}

TEST(Options, UnknownNamesComeWithTheNearest) {
  Values v;
  OptionSet options = options_for(&v);
  EXPECT_EQ(error_of(options, "cuont", "1"), "unknown option cuont; did you mean count?");
  EXPECT_EQ(error_of(options, "zzzzzz", "1"), "unknown option zzzzzz");
  EXPECT_EQ(nearest_name(std::string(1 << 20, 'a'), {"count"}), "");
}

TEST(Options, JsonFillsWhatFlagsLeftOpen) {
  Values v;
  OptionSet options = options_for(&v);
  options.set("count", "9");
  const Json json = parse_json(R"({"count":1,"rate":2,"file":["a","b"],"quiet":true,"name":null})", "f.json");
  options.apply_json(JsonObject(json, "f.json"));
  EXPECT_EQ(v.count, 9) << "flags win";
  EXPECT_EQ(v.rate, 2.0);
  EXPECT_EQ(v.files, (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(v.quiet);
  EXPECT_EQ(v.name, "x");
}

TEST(Options, JsonErrorsNameFileAndKey) {
  const auto message = [](const std::string& text) -> std::string {
    Values v;
    OptionSet options = options_for(&v);
    const Json json = parse_json(text, "f.json");
    try {
      options.apply_json(JsonObject(json, "f.json", "sepllm"));
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_EQ(message(R"({"cout":1})"), "f.json: sepllm.cout: unknown key; did you mean 'count'?");
  EXPECT_TRUE(message(R"({"count":"many"})").starts_with("f.json: sepllm.count: "));
  EXPECT_NE(message(R"({"count":{}})"), "");
  EXPECT_TRUE(message(R"({"count":[1,2]})").starts_with("f.json: sepllm.count: ")) << "takes one value";
}

TEST(Options, AListInJsonIsForRepeatableOptionsOnly) {
  OptionSet options;
  int64_t count = 0;
  options.add_int("count", &count, 0, 10, "a number");
  const Json json = parse_json(R"({"count":[1,2]})", "f.json");
  test::expect_error([&] { options.apply_json(JsonObject(json, "f.json")); }, ErrorCode::kInvalidArgument,
                     {"f.json", "count", "[1,2]"});
}

TEST(Options, HiddenOptionsStayOutOfJson) {
  std::string secret;
  OptionSet options;
  options.add({.name = "secret",
               .set = [&](const std::string& text) { secret = text; },
               .get = [&] { return Json(secret); },
               .in_json = false});
  options.set("secret", "s");
  EXPECT_EQ(options.to_json().dump(), "{}");
  const Json json = parse_json(R"({"secret":"t"})", "f");
  EXPECT_THROW(options.apply_json(JsonObject(json, "f")), Error);
  EXPECT_THROW(options.add({.name = "secret", .set = {}, .get = {}}), CheckFailure);  // declared twice
  EXPECT_THROW(options.was_set("other"), CheckFailure);
}

}  // namespace
}  // namespace sepllm
