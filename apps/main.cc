// The program: chooses the command. It is the one place where failures become a line on standard error and an
// exit code.
#include <fmt/format.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <exception>
#include <new>
#include <string>
#include <vector>

#include "apps/shell/cli.h"
#include "apps/shell/commands.h"
#include "apps/shell/manual.h"
#include "apps/shell/output.h"
#include "base/check.h"
#include "base/error.h"
#include "base/log.h"
#include "kernels/cpu_limit.h"

namespace sepllm {
namespace {

Command* find_command(const Commands& commands, const std::string& name) {
  for (const auto& c : commands) {
    if (c->name() == name) return c.get();
  }
  return nullptr;
}

[[noreturn]] void refuse_command(const Commands& commands, const std::string& name) {
  std::vector<std::string> names;
  for (const auto& c : commands) names.push_back(c->name());
  std::string near = nearest_name(name, names);
  for (const std::string& longer : names) {
    if (near.empty() && !name.empty() && longer.starts_with(name + " ")) near = longer;
  }
  const std::string what = !name.empty() && name[0] == '-' ? "unknown option " : "unknown command ";
  throw Error(ErrorCode::kInvalidArgument, what + "'" + name + "'",
              {.hint = near.empty() ? "see `sepllm --help`" : "did you mean '" + near + "'?"});
}

int dispatch(std::vector<std::string> arguments) {
  const Commands commands = all_commands();
  if (arguments.empty() || arguments[0] == "--help" || arguments[0] == "-h" || arguments[0] == "help") {
    print(overview_text(commands));
    return 0;
  }
  if (arguments[0] == "--version") {
    print("sepllm " SEPLLM_VERSION "\n");
    return 0;
  }
  if (arguments[0] == "--help-markdown") {
    print(help_markdown(commands));
    return 0;
  }
  if (arguments[0] == "--help-man") {
    print(manual_page(commands));
    return 0;
  }
  if (arguments[0] == "--completion") {
    if (arguments.size() != 2 || arguments[1] != "bash") {
      throw Error(ErrorCode::kInvalidArgument, "completions are written for bash only",
                  {.expected = "sepllm --completion bash"});
    }
    print(bash_completion(commands));
    return 0;
  }
  Command* command = find_command(commands, arguments[0]);
  size_t words = 1;
  if (arguments.size() > 1) {
    if (Command* longer = find_command(commands, arguments[0] + " " + arguments[1])) {
      command = longer;
      words = 2;
    }
  }
  if (command == nullptr) refuse_command(commands, arguments[0]);
  arguments.erase(arguments.begin(), arguments.begin() + static_cast<std::ptrdiff_t>(words));
  if (!parse_arguments(*command, arguments)) {
    print(help_text(*command));
    return 0;
  }
  return command->run();
}

int fail(const std::string& message) {
  print_note("sepllm: error: " + message);
  return 1;
}

// SEPLLM_CPU. OpenBLAS has chosen its kernels before main() began, by a variable of its own: the program
// begins again with that one set.
void obey_cpu_limit(char** argv) {
  const CpuLimit* limit = stated_cpu_limit();
  if (limit == nullptr) return;
  limit_cpu(*limit);
  if (!cpu_reaches(*limit))
    log_warning(fmt::format("SEPLLM_CPU={}: this processor has less than that", limit->name));
  if (std::getenv("OPENBLAS_CORETYPE") != nullptr) return;
  setenv("OPENBLAS_CORETYPE", limit->openblas, 1);
  execv("/proc/self/exe", argv);
  log_warning("OpenBLAS is not limited as SEPLLM_CPU says");
}

int guarded_main(const std::vector<std::string>& arguments, char** argv) {
  try {
    set_up_output();
    obey_cpu_limit(argv);
    return dispatch(arguments);
  } catch (const OutputClosed&) {
    return 0;
  } catch (const Error& e) {
    return fail(e.marked_text());
  } catch (const CheckFailure& e) {
    return fail(fmt::format("{} (a bug of sepllm: please report it)", e.what()));
  } catch (const std::bad_alloc&) {
    return fail("out of memory");
  } catch (const std::exception& e) {
    return fail(e.what());
  }
}

}  // namespace
}  // namespace sepllm

int main(int argc, char** argv) {
  return sepllm::guarded_main({argv + (argc > 0 ? 1 : 0), argv + argc}, argv);
}
