// Shared by the tests: the folder of test data (optional), temporary folders, running the real program.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace sepllm::test {

// The folder of real models, tokenizers and texts: $SEPLLM_TEST_DATA, else shared/data next to the
// repository; nullopt if there is none.
std::optional<std::string> data_folder();

// The folder of the repository's own model, models/sepllm-5m; nullopt if it is not there.
std::optional<std::string> embedded_model();
// The text of the demo, which the embedded model was not trained on.
std::string demo_text_file();

// A new empty folder that is removed with all its content at the end of its life.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/" + name; }
  // Writes a file into it and returns its path.
  std::string write(const std::string& name, const std::string& content) const;

 private:
  std::string path_;
};

struct ProgramResult {
  int exit_code;  // 128 + signal if it was killed
  std::string out;
  std::string err;
};
// Runs the built sepllm binary with these arguments and this standard input.
ProgramResult run_sepllm(const std::vector<std::string>& arguments, const std::string& input = "");

}  // namespace sepllm::test

// For tests that need the data folder.
#define SEPLLM_DATA_OR_SKIP(name)                                                           \
  const auto name##_optional = ::sepllm::test::data_folder();                               \
  if (!name##_optional) GTEST_SKIP() << "no test data: set SEPLLM_TEST_DATA to its folder"; \
  const std::string name = *name##_optional

// For tests that need the embedded model.
#define SEPLLM_EMBEDDED_MODEL_OR_SKIP(name)                                                            \
  const auto name##_optional = ::sepllm::test::embedded_model();                                       \
  if (!name##_optional) GTEST_SKIP() << "no embedded model: models/sepllm-5m is not in this checkout"; \
  const std::string name = *name##_optional
