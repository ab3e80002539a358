// What is installed next to the program and made from the same list of options as --help: the manual page,
// and the completions of a shell.
#pragma once

#include <string>

#include "apps/shell/cli.h"

namespace sepllm {

// sepllm(1), in the man macros of roff.
std::string manual_page(const Commands& commands);
// For bash: commands, their options, and the values of options that have a closed list of them.
std::string bash_completion(const Commands& commands);

}  // namespace sepllm
