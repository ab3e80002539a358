// The command line: a command is a list of options (base/options.h); parsing, --help and docs/CLI.md come
// from it.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/options.h"

namespace sepllm {

struct OptionGroup {
  std::string title;
  OptionSet* options;
};

// One subcommand. `groups` are in the order in which --help shows them; option names are unique over all
// groups.
class Command {
 public:
  virtual ~Command() = default;

  virtual std::string name() const = 0;     // "generate", "inspect attention"
  virtual std::string summary() const = 0;  // one line
  virtual std::string usage() const = 0;    // what follows the name: "--model M --text F..."
  virtual std::vector<OptionGroup> groups() = 0;
  // The name of the option that a plain argument sets ("model" for `sepllm demo FOLDER`); empty: plain
  // arguments are not accepted.
  virtual std::string positional() const { return ""; }
  // Called after the options were set. Throws Error; the result is the exit code.
  virtual int run() = 0;
};

using Commands = std::vector<std::unique_ptr<Command>>;

// Sets the options from `arguments` (those after the command's name). False if --help was asked for. Error
// (kInvalidArgument) for unknown flags (with the nearest known name), missing values and values out of range.
bool parse_arguments(Command& command, const std::vector<std::string>& arguments);

std::string help_text(Command& command);
// The text of `sepllm --help`.
std::string overview_text(const Commands& commands);
// docs/CLI.md: every command with its options.
std::string help_markdown(const Commands& commands);

}  // namespace sepllm
