// Shared by the tests of the command line.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/json.h"
#include "model/random_model.h"
#include "tests/support/support.h"

namespace sepllm::test {

// The program must end without error; its standard output is one JSON value and nothing else.
inline Json run_json(std::vector<std::string> arguments) {
  arguments.emplace_back("--json");
  const ProgramResult result = run_sepllm(arguments);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  return result.exit_code == 0 ? parse_json(result.out, "standard output") : Json();
}

// The program must end with exit code 1, nothing on standard output, and one line on standard error that
// begins with "sepllm: error: " and contains all of `parts`.
inline void expect_failure(const std::vector<std::string>& arguments, const std::vector<std::string>& parts,
                           const std::string& input = "") {
  const ProgramResult result = run_sepllm(arguments, input);
  EXPECT_EQ(result.exit_code, 1) << result.out;
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(result.err.rfind("sepllm: error: ", 0), 0U) << result.err;
  EXPECT_EQ(result.err.find('\n') + 1, result.err.size()) << result.err;
  for (const std::string& part : parts) EXPECT_NE(result.err.find(part), std::string::npos) << result.err;
}

inline std::vector<std::string> operator+(std::vector<std::string> a, const std::vector<std::string>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// Tests on a tiny model with random weights and a byte tokenizer (position limit 512).
class RandomModelTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    write_random_model(folder_->file("model"), {});
  }
  static void TearDownTestSuite() {
    delete folder_;
    folder_ = nullptr;
  }
  static std::string model() { return folder_->file("model"); }
  static std::string write(const std::string& name, const std::string& content) {
    return folder_->write(name, content);
  }
  static std::string file(const std::string& name) { return folder_->file(name); }
  // "COMMAND --model M" and more.
  static std::vector<std::string> with_model(const std::string& command,
                                             const std::vector<std::string>& more = {}) {
    return std::vector<std::string>{command, "--model", model()} + more;
  }

 private:
  static inline TemporaryFolder* folder_ = nullptr;
};

}  // namespace sepllm::test
