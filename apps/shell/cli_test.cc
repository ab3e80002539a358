#include "apps/shell/cli.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "apps/shell/commands.h"
#include "base/error.h"
#include "tests/support/expect_error.h"

namespace sepllm {
namespace {

std::string flag(const Option& option) { return (option.name.size() == 1 ? "-" : "--") + option.name; }

// A fresh command of this index in the list, and one of its options.
struct Fresh {
  explicit Fresh(size_t command) : commands(all_commands()), command(*commands[command]) {}
  Option& option(const std::string& name) const {
    for (const OptionGroup& group : command.groups()) {
      for (Option& o : group.options->options()) {
        if (o.name == name) return o;
      }
    }
    throw std::logic_error("no option " + name);
  }
  Commands commands;
  Command& command;
};

// (Command, option) for every option of the program for which `wanted` returns true.
template <typename Wanted>
std::vector<std::pair<size_t, std::string>> all_options(const Wanted& wanted) {
  std::vector<std::pair<size_t, std::string>> out;
  const Commands commands = all_commands();
  for (size_t c = 0; c < commands.size(); ++c) {
    for (const OptionGroup& group : commands[c]->groups()) {
      for (const Option& o : group.options->options()) {
        if (wanted(o)) out.emplace_back(c, o.name);
      }
    }
  }
  return out;
}

// Values that an option accepts, each with what get() then returns.
std::vector<std::pair<std::string, Json>> two_values(Option& option) {
  std::vector<std::string> candidates = option.choices;
  if (candidates.empty())
    candidates = {"300", "2", "1", "0.5", "0.25", "0=full", "1=full", "-1=2", "5000", "6000"};
  std::vector<std::pair<std::string, Json>> out;
  for (const std::string& text : candidates) {
    try {
      option.set(text);
      if (out.empty() || out.front().second != option.get()) out.emplace_back(text, option.get());
    } catch (const Error&) {
      continue;
    }
    if (out.size() == 2) break;
  }
  return out;
}

TEST(CommandLine, OfAnOptionGivenTwiceTheLastCounts) {
  const auto options = all_options([](const Option& o) { return !o.value_name.empty() && !o.repeatable; });
  EXPECT_GT(options.size(), 100U);
  for (const auto& [command, name] : options) {
    const Fresh probe(command), fresh(command);
    SCOPED_TRACE(fresh.command.name() + " --" + name);
    const auto values = two_values(probe.option(name));
    Option& option = fresh.option(name);
    if (option.choices.size() == 1) continue;
    ASSERT_EQ(values.size(), 2U);
    ASSERT_TRUE(parse_arguments(fresh.command, {flag(option), values[1].first, flag(option), values[0].first,
                                                flag(option), values[1].first}));
    EXPECT_EQ(option.get(), values[1].second);
  }
}

TEST(CommandLine, OfAListEveryValueCountsInOrder) {
  const auto options = all_options([](const Option& o) { return o.repeatable; });
  std::set<std::string> names, several;
  for (const auto& [command, name] : options) {
    const Fresh fresh(command);
    SCOPED_TRACE(fresh.command.name() + " --" + name);
    Option& option = fresh.option(name);
    names.insert(name);
    ASSERT_TRUE(parse_arguments(fresh.command, {flag(option), "b", flag(option), "a", flag(option), "b"}));
    EXPECT_EQ(option.get(), Json({"b", "a", "b"}));
    const Fresh again(command);
    const std::vector<std::string> one_flag = {flag(option), "b", "a", "b"};
    if (option.takes_list) {
      several.insert(name);
      ASSERT_TRUE(parse_arguments(again.command, one_flag));
      EXPECT_EQ(again.option(name).get(), Json({"b", "a", "b"}));
    } else if (again.command.positional().empty()) {
      test::expect_error([&] { parse_arguments(again.command, one_flag); }, ErrorCode::kInvalidArgument,
                         {"unexpected argument 'a'"});
    } else {
      ASSERT_TRUE(parse_arguments(again.command, one_flag));
      EXPECT_EQ(again.option(name).get(), Json({"b"}));
      EXPECT_EQ(again.option(again.command.positional()).get(), Json({"a", "b"}));
    }
  }
  EXPECT_EQ(names, (std::set<std::string>{"alias", "api-key", "text", "input", "run", "stop", "set",
                                          "special-token"}));
  EXPECT_EQ(several, (std::set<std::string>{"text", "input", "run"}));
}

TEST(CommandLine, AFlagMayBeGivenTwice) {
  const auto flags = all_options([](const Option& o) { return o.value_name.empty(); });
  for (const auto& [command, name] : flags) {
    const Fresh fresh(command);
    Option& option = fresh.option(name);
    ASSERT_TRUE(parse_arguments(fresh.command, {flag(option), flag(option)})) << name;
    EXPECT_EQ(option.get(), Json(true)) << name;
  }
}

// The text of the help decides nothing.
class Prose : public Command {
 public:
  Prose() {
    options_.add_strings("one", &one_, "a word at a time", "FILE");
    options_.add_strings("many", &many_, "words", "WORD").takes_list = true;
    options_.add_int("n", &n_, 0, 100, "how many, by default some");
    options_.add_int("all", &all_, 0, 100, "how many").default_note = "all there are";
    options_.add_int("needed", &all_, 1, 100, "how many").default_value = {};
  }
  std::string name() const override { return "prose"; }
  std::string summary() const override { return "Prose"; }
  std::string usage() const override { return ""; }
  std::vector<OptionGroup> groups() override { return {{"Options", &options_}}; }
  int run() override { return 0; }

  OptionSet options_;
  std::vector<std::string> one_, many_;
  int64_t n_ = 7, all_ = 0;
};

TEST(CommandLine, WhatAnOptionTakesIsNoMatterOfItsDisplayName) {
  Prose command;
  EXPECT_THROW(parse_arguments(command, {"--one", "a", "b"}), Error);
  Prose again;
  ASSERT_TRUE(parse_arguments(again, {"--many", "a", "b", "--one", "c", "--one", "d"}));
  EXPECT_EQ(again.many_, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(again.one_, (std::vector<std::string>{"c", "d"}));
}

TEST(CommandLine, HelpShowsTheRealDefaults) {
  Prose command;
  EXPECT_TRUE(parse_arguments(command, {"-n", "9"}));
  const std::string help = help_text(command);
  EXPECT_NE(help.find("how many, by default some (default: 7)\n"), std::string::npos) << help;
  EXPECT_NE(help.find("how many (default: all there are)\n"), std::string::npos) << help;
  EXPECT_NE(help.find("--needed N                  how many\n"), std::string::npos) << help;
}

TEST(CommandLine, NoHelpTextNamesADefaultOfItsOwn) {
  const auto all = all_options([](const Option& o) { return o.help.find("default") != std::string::npos; });
  EXPECT_TRUE(all.empty()) << all.front().second << ": its default is a field (base/options.h)";
}

}  // namespace
}  // namespace sepllm
