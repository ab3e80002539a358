#include "apps/shell/cli.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include "base/error.h"

namespace sepllm {
namespace {

constexpr size_t kHelpColumn = 30;
constexpr size_t kLineWidth = 110;
constexpr int kMaxFiles = 1 << 20;

std::string flag_of(const std::string& name) { return (name.size() == 1 ? "-" : "--") + name; }

void bind(CLI::App& app, OptionSet* set, const Option& option, bool positional) {
  const std::string name = option.name;
  if (option.value_name.empty()) {
    app.add_flag_callback(flag_of(name), [set, name] { set->set(name, "true"); });
    return;
  }
  CLI::Option* bound = app.add_option(
      flag_of(name) + (positional ? "," + name : ""),
      [set, name](const CLI::results_t& values) {
        for (const std::string& value : values) set->set(name, value);
        return true;
      },
      option.help);
  bound->type_name(option.value_name);
  if (option.takes_list) {
    bound->expected(1, kMaxFiles)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    if (positional) bound->allow_extra_args();  // plain arguments, anywhere between the flags
  } else if (option.repeatable) {
    bound->expected(1)->allow_extra_args(false)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  } else {
    bound->expected(1)->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  }
}

[[noreturn]] void refuse(Command& command, const std::string& argument) {
  if (argument.size() < 2 || argument[0] != '-') {
    throw Error(ErrorCode::kInvalidArgument, "unexpected argument '" + argument + "'",
                {.hint = "see `sepllm " + command.name() + " --help`"});
  }
  const std::string given = argument.substr(0, argument.find('='));
  const std::string bare = given.substr(std::min(given.find_first_not_of('-'), given.size()));
  std::vector<std::string> names = {"help"};
  for (const OptionGroup& group : command.groups()) {
    for (const Option& o : group.options->options()) names.push_back(o.name);
  }
  const std::string near = nearest_name(bare, names);
  throw Error(ErrorCode::kInvalidArgument, "unknown option " + given,
              {.hint = near.empty() ? "see `sepllm " + command.name() + " --help`"
                                    : "did you mean " + flag_of(near) + "?"});
}

std::string help_of(const Option& option) {
  const std::string value = option.default_text();
  return value.empty() ? option.help : fmt::format("{} (default: {})", option.help, value);
}

std::string synopsis(const Option& option) {
  std::string text = flag_of(option.name);
  if (!option.value_name.empty()) text += " " + option.value_name;
  if (option.repeatable) text += "...";
  return text;
}

// `text` in lines of at most kLineWidth; all lines but the first are indented to the help column.
std::string wrapped(const std::string& text) {
  std::string out;
  size_t column = kHelpColumn;
  size_t at = 0;
  while (at < text.size()) {
    const size_t end = std::min(text.find(' ', at), text.size());
    if (column + (end - at) + 1 > kLineWidth) {
      out += "\n" + std::string(kHelpColumn, ' ');
      column = kHelpColumn;
    } else if (at > 0) {
      out += ' ';
      ++column;
    }
    out += text.substr(at, end - at);
    column += end - at;
    at = end + 1;
  }
  return out;
}

std::string option_lines(const OptionSet& options) {
  std::string out;
  for (const Option& o : options.options()) {
    std::string head = "  " + synopsis(o);
    if (head.size() + 2 > kHelpColumn) {
      out += head + "\n" + std::string(kHelpColumn, ' ');
    } else {
      out += head + std::string(kHelpColumn - head.size(), ' ');
    }
    out += wrapped(help_of(o)) + "\n";
  }
  return out;
}

std::string markdown_cell(std::string text) {
  for (size_t at = 0; (at = text.find('|', at)) != std::string::npos; at += 2) text.insert(at, "\\");
  return text;
}

}  // namespace

bool parse_arguments(Command& command, const std::vector<std::string>& arguments) {
  CLI::App app;
  app.set_help_flag("-h,--help");
  app.allow_extras();
  for (const OptionGroup& group : command.groups()) {
    for (const Option& o : group.options->options()) {
      bind(app, group.options, o, o.name == command.positional());
    }
  }
  try {
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
  } catch (const CLI::CallForHelp&) {
    return false;
  } catch (const CLI::ParseError& e) {
    throw Error(ErrorCode::kInvalidArgument, e.what(),
                {.hint = "see `sepllm " + command.name() + " --help`"});
  }
  const std::vector<std::string> extras = app.remaining();
  if (!extras.empty()) refuse(command, extras.front());
  return true;
}

std::string help_text(Command& command) {
  std::string out =
      fmt::format("{}\n\nUsage: sepllm {} {}\n", command.summary(), command.name(), command.usage());
  for (const OptionGroup& group : command.groups()) {
    out += fmt::format("\n{}\n{}", group.title, option_lines(*group.options));
  }
  return out + "\n  -h --help                   this text\n";
}

std::string overview_text(const Commands& commands) {
  std::string out =
      "sepllm: language models whose attention keeps only initial tokens, separators and a neighbouring "
      "window\n\n"
      "Usage: sepllm COMMAND [options]\n\nCommands\n";
  for (const auto& c : commands) out += fmt::format("  {:<20}{}\n", c->name(), c->summary());
  return out +
         "\nResults go to standard output; progress, figures and warnings go to standard error.\n"
         "`sepllm COMMAND --help` lists a command's options; `sepllm --version` prints the version.\n";
}

std::string help_markdown(const Commands& commands) {
  std::string out =
      "# The command line\n\n"
      "Written by `sepllm --help-markdown`; a test checks that it is up to date.\n\n"
      "Results (text, JSON, tables) go to standard output; progress, figures and warnings go to standard "
      "error. "
      "With `--json`\nstandard output carries exactly one JSON value. The exit code is 0, or 1 with "
      "one line that says what is wrong. If a\nsignal stops `train` and it has saved its state, its exit "
      "code is "
      "128 plus the signal's number (SIGTERM 143, Ctrl-C 130).\n\n"
      "Before a model is loaded, its weights and its cache are compared with the available memory: the "
      "machine's "
      "memory, swap,\nand the limits of the container's control groups. If they cannot fit, there is an "
      "error; if "
      "they fit only just, there is\na warning with the figures. Weights that are used as stored stay in "
      "their "
      "files, whose pages can be dropped and read\nagain. They never have to fit, but a model that is larger "
      "than the memory is slow. `train` compares its plan, and\n`inspect` prints the figures. If the "
      "system's "
      "figures are wrong, the environment variable `SEPLLM_MEMORY` sets the\navailable memory, as in "
      "`SEPLLM_MEMORY=24G`.\n"
      "\nThese environment variables are for measuring. `SEPLLM_CPU=avx2|avx512|vnni|bf16|amx` uses no "
      "instruction set beyond "
      "that one,\nin OpenBLAS too. `SEPLLM_WALKS=on|off|again`: commands that decode with a large model "
      "measure once how "
      "weights are read\nfastest on this machine (`inspect cpu` prints it), use a fixed way, or measure "
      "anew; results do "
      "not depend on it.\n`SEPLLM_LOG=debug` prints also lines that help to find a cause.\n";
  for (const auto& c : commands) {
    out += fmt::format("\n## sepllm {}\n\n{}\n\n```\nsepllm {} {}\n```\n", c->name(), c->summary(), c->name(),
                       c->usage());
    for (const OptionGroup& group : c->groups()) {
      out += fmt::format("\n**{}**\n\n| Option | |\n|---|---|\n", group.title);
      for (const Option& o : group.options->options()) {
        out += fmt::format("| `{}` | {} |\n", markdown_cell(synopsis(o)), markdown_cell(help_of(o)));
      }
    }
  }
  return out;
}

}  // namespace sepllm
