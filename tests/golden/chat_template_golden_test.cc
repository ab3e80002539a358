// Compares templates with jinja2 as transformers sets it up: tests/golden/chat_templates, made by
// oracles/make_template_cases.py.
#include <gtest/gtest.h>

#include <ctime>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "tests/support/golden.h"
#include "text/template/template.h"

namespace sepllm::test {
namespace {

class ChatTemplateGolden : public ::testing::Test {
 protected:
  static std::string folder() { return std::string(SEPLLM_SOURCE_DIR) + "/tests/golden/chat_templates"; }
  static std::tm clock_of(const Json& numbers) {
    std::tm clock{};
    clock.tm_year = numbers[0].get<int>() - 1900;
    clock.tm_mon = numbers[1].get<int>() - 1;
    clock.tm_mday = numbers[2];
    clock.tm_hour = numbers[3];
    clock.tm_min = numbers[4];
    clock.tm_sec = numbers[5];
    clock.tm_isdst = -1;
    std::mktime(&clock);  // sets the day of the week and of the year
    return clock;
  }
  static std::string rendered(const Json& document, const Json& one) {
    const Json& given = one.contains("variables") ? one["variables"] : document["variables"];
    jinja::Interpreter::Variables variables;
    for (const auto& [name, value] : given.items()) {
      variables.emplace_back(name, jinja::value_from_json(value, Origin::kUser));
    }
    const std::string source = one.contains("file")
                                   ? read_file(folder() + "/" + one["file"].get<std::string>())
                                   : one["template"].get<std::string>();
    return jinja::Template(source, "template").render(variables, clock_of(document["clock"])).bytes();
  }
  static void expect_error(const Json& document, const Json& one) {
    try {
      ADD_FAILURE() << "no error, but " << rendered(document, one);
    } catch (const Error& error) {
      const std::string what = error.what();
      EXPECT_NE(what.find("line "), std::string::npos) << what;
      if (one.contains("refused")) {
        EXPECT_NE(what.find(one["refused"].get<std::string>()), std::string::npos) << what;
        return;
      }
      // An error that a template raises itself is passed on unchanged.
      const std::string theirs = one["error"];
      const std::string own = "TemplateError: ";
      if (theirs.starts_with(own)) {
        EXPECT_NE(what.find(theirs.substr(own.size())), std::string::npos) << what;
      }
    }
  }
};

TEST_F(ChatTemplateGolden, GiveWhatJinjaGives) {
  const Json document = Json::parse(read_file(folder() + "/cases.json"));
  int n_rendered = 0, n_errors = 0;
  for (const Json& one : document["cases"]) {
    SCOPED_TRACE(one.contains("file") ? one["file"].get<std::string>() + ": " + one["name"].get<std::string>()
                                      : one["template"].get<std::string>());
    if (!one.contains("expected")) {
      ++n_errors;
      expect_error(document, one);
      continue;
    }
    ++n_rendered;
    try {
      EXPECT_EQ(rendered(document, one), one["expected"].get<std::string>());
    } catch (const Error& error) {
      ADD_FAILURE() << error.what();
    }
  }
  EXPECT_GT(n_rendered, 400);
  EXPECT_GT(n_errors, 100);
}

}  // namespace
}  // namespace sepllm::test
