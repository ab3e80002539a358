// What `cmake --install` writes is complete: the example in C is compiled against it and runs, and the pages
// and completions are there.
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <string>

#include "base/file.h"
#include "tests/support/cli.h"

namespace sepllm::test {
namespace {

class Install : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    installed_ = shell("cmake --install '" + build_folder() + "' --prefix '" + tree() + "'") == 0;
  }
  static void TearDownTestSuite() {
    delete folder_;
    folder_ = nullptr;
  }
  void SetUp() override { ASSERT_TRUE(installed_) << output(); }

  // SEPLLM_BINARY lies in bin/ in it.
  static std::string build_folder() {
    return std::filesystem::path(SEPLLM_BINARY).parent_path().parent_path();
  }
  static std::string tree() { return folder_->file("tree"); }
  // The exit code; output() is what the command printed.
  static int shell(const std::string& command) {
    const int status = std::system(("( " + command + " ) > '" + folder_->file("output") + "' 2>&1").c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  static std::string output() { return read_file(folder_->file("output")); }
  // The example, compiled with what pkg-config says.
  static void compile_example() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    GTEST_SKIP() << "the example is a program without sanitizers";
#endif
    const std::string program = folder_->file("generate");
    if (file_exists(program)) return;
    ASSERT_EQ(shell("export PKG_CONFIG_PATH=\"$(dirname \"$(find '" + tree() +
                    "' -name sepllm.pc)\")\"; cc -std=c99 -Wall -Wextra " +
                    "-Werror -pedantic '" SEPLLM_SOURCE_DIR
                    "/examples/generate.c' $(pkg-config --cflags --libs sepllm) " +
                    "-Wl,-rpath,$(pkg-config --variable=libdir sepllm) -o '" + program + "'"),
              0)
        << output();
  }

  static inline TemporaryFolder* folder_ = nullptr;
  static inline bool installed_ = false;
};

TEST_F(Install, TheExampleInCRunsAgainstIt) {
  SEPLLM_EMBEDDED_MODEL_OR_SKIP(model);
  compile_example();
  if (IsSkipped() || HasFatalFailure()) return;
  const std::string text = "Once upon a time, there was a little girl. She",
                    options = R"({"policy": "sep", "window": 16})";
  ASSERT_EQ(shell("'" + folder_->file("generate") + "' '" + model + "' '" + text + "' '" + options + "'"), 0)
      << output();
  const ProgramResult same = run_sepllm(
      {"generate", "--model", model, "--prompt", text, "-n", "24", "--policy", "sep", "--window", "16"});
  // The first text is what the program gives for the same.
  EXPECT_EQ(output().rfind(same.out + "\n", 0), 0U) << output() << "\n---\n" << same.out;
  EXPECT_NE(output().find("\nkeys: mean "), std::string::npos) << output();

  ASSERT_EQ(shell("'" + folder_->file("generate") + "' /nowhere x"), 1);
  EXPECT_EQ(output().rfind("loading the model: /nowhere", 0), 0U) << output();
}

TEST_F(Install, CMakeFindsIt) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "the example is a program without sanitizers";
#endif
  const std::string project = folder_->file("project");
  std::filesystem::create_directory(project);
  write_file_atomically(project + "/CMakeLists.txt",
                        "cmake_minimum_required(VERSION 3.23)\nproject(example LANGUAGES C)\n"
                        "find_package(sepllm 0.1 REQUIRED)\n"
                        "add_executable(example " SEPLLM_SOURCE_DIR
                        "/examples/generate.c)\n"
                        "target_link_libraries(example PRIVATE sepllm::sepllm)\n");
  ASSERT_EQ(shell("cmake -S '" + project + "' -B '" + project + "/build' -DCMAKE_PREFIX_PATH='" + tree() +
                  "' && cmake --build '" + project + "/build'"),
            0)
      << output();
  EXPECT_EQ(shell("'" + project + "/build/example' /nowhere x"), 1);
  EXPECT_EQ(output().rfind("loading the model: /nowhere", 0), 0U) << output();
}

TEST_F(Install, TheLibraryExportsItsFunctionsOnly) {
  ASSERT_EQ(shell("nm -D --defined-only \"$(find '" + tree() + "' -name libsepllm.so)\" | cut -d' ' -f3"), 0)
      << output();
  std::istringstream lines(output());
  int n = 0;
  for (std::string line; std::getline(lines, line);) {
    if (line.empty() || line.rfind("SEPLLM_0", 0) == 0) continue;
    EXPECT_EQ(line.rfind("sepllm_", 0), 0U) << line;
    ++n;
  }
  const std::string header = read_file(SEPLLM_SOURCE_DIR "/include/sepllm/sepllm.h");
  int declared = 0;
  for (size_t at = header.find("\nSEPLLM_API "); at != std::string::npos;
       at = header.find("\nSEPLLM_API ", at + 1))
    ++declared;
  EXPECT_EQ(n, declared);
  EXPECT_GT(n, 40);
}

TEST_F(Install, TheProgramAndItsPagesAreThere) {
  ASSERT_EQ(shell("'" + tree() + "/bin/sepllm' --version"), 0) << output();
  for (const char* file : {"/share/man/man1/sepllm.1", "/share/doc/sepllm/NOTICES.md",
                           "/share/doc/sepllm/CLI.md", "/include/sepllm/sepllm.h"})
    EXPECT_TRUE(file_exists(tree() + file)) << file;
  const std::string manual = read_file(tree() + "/share/man/man1/sepllm.1");
  EXPECT_EQ(manual, run_sepllm({"--help-man"}).out);
  EXPECT_NE(manual.find(".SS sepllm generate\n"), std::string::npos);
  EXPECT_NE(manual.find("\n\\fB\\-\\-prefill\\-chunk\\fR \\fIN\\fR\n"), std::string::npos);

  const std::string completions = tree() + "/share/bash-completion/completions/sepllm";
  const auto completed = [&](const std::string& words, int index) {
    EXPECT_EQ(shell("bash -c 'source " + completions + "; COMP_WORDS=(" + words +
                    "); COMP_CWORD=" + std::to_string(index) + "; _sepllm; echo ${COMPREPLY[@]}'"),
              0);
    return output();
  };
  EXPECT_EQ(completed("sepllm gen", 1), "generate\n");
  EXPECT_EQ(completed("sepllm bench ba", 2), "batch\n");
  EXPECT_EQ(completed("sepllm generate --prefill", 2), "--prefill-chunk\n");
  EXPECT_EQ(completed("sepllm generate --policy si", 3), "sink sink-stream\n");
  EXPECT_EQ(completed("sepllm inspect attention --lay", 3), "--layers\n");
}

TEST(Completions, OnlyForBash) { expect_failure({"--completion", "fish"}, {"bash only"}); }

}  // namespace
}  // namespace sepllm::test
