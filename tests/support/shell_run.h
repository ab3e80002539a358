// Runs the program through a shell: after other commands, with faults, killed.
#pragma once

#include <sys/wait.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "base/file.h"
#include "tests/support/support.h"

namespace sepllm::test {

class ShellRun {
 public:
  // Outputs go to files in `folder`.
  explicit ShellRun(std::string folder) : folder_(std::move(folder)) {}

  // The exit code, or 128 + signal if it was killed; `before` is written before the program's name.
  int run(const std::string& before, const std::vector<std::string>& arguments) const {
    std::string command = before + " " + SEPLLM_BINARY;
    for (const std::string& a : arguments) command += " '" + a + "'";
    command += " > " + folder_ + "/out 2> " + folder_ + "/err";
    const int status = std::system(("bash -c \"" + command + "\" 2> " + folder_ + "/shell").c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  std::string out() const { return read_file(folder_ + "/out"); }
  std::string err() const { return read_file(folder_ + "/err"); }

  // A system call that fails or kills (tests/faults/faulty_calls.cc), to be used as `before`.
  static std::string with_fault(const std::string& fault) {
    return std::string("ASAN_OPTIONS=verify_asan_link_order=0 LD_PRELOAD=") + SEPLLM_FAULTY_CALLS +
           " SEPLLM_FAULT=" + fault;
  }

 private:
  std::string folder_;
};

}  // namespace sepllm::test
