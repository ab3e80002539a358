// --help, --version, and the page of docs/ that is made from the same list.
#include "base/file.h"
#include "tests/support/cli.h"

namespace sepllm::test {
namespace {

const std::vector<std::vector<std::string>> kCommands = {{"generate"},
                                                         {"chat"},
                                                         {"score"},
                                                         {"tokenize"},
                                                         {"inspect"},
                                                         {"inspect", "attention"},
                                                         {"inspect", "data"},
                                                         {"quantize"},
                                                         {"prepare"},
                                                         {"bench", "decode"},
                                                         {"bench", "prefill"},
                                                         {"bench", "memory"},
                                                         {"bench", "attention"},
                                                         {"demo"}};

TEST(CliHelp, EveryCommandHasOne) {
  const ProgramResult overview = run_sepllm({"--help"});
  EXPECT_EQ(overview.exit_code, 0);
  EXPECT_EQ(overview.err, "");
  for (const auto& command : kCommands) {
    EXPECT_NE(overview.out.find("\n  " + command.front()), std::string::npos) << command.front();
    const ProgramResult help = run_sepllm(command + std::vector<std::string>{"--help"});
    EXPECT_EQ(help.exit_code, 0);
    EXPECT_EQ(help.err, "");
    EXPECT_NE(help.out.find("Usage: sepllm " + command.front()), std::string::npos);
    const bool has_model =
        command.front() != "bench" && command.front() != "prepare" && command.back() != "data";
    EXPECT_NE(help.out.find(has_model ? "--model" : "--json"), std::string::npos);
  }
}

TEST(CliHelp, ListsEveryPolicyOption) {
  const std::string help = run_sepllm({"score", "-h"}).out;
  for (const char* flag :
       {"--policy", "--init", "--window", "--seps", "--capacity", "--interval", "--sep-replace",
        "--layer-window", "--separators", "--positions", "--kv", "--prefill-chunk"}) {
    EXPECT_NE(help.find(std::string("\n  ") + flag), std::string::npos) << flag;
  }
}

TEST(CliHelp, NoCommandShowsTheOverview) {
  EXPECT_EQ(run_sepllm({}).out, run_sepllm({"--help"}).out);
  EXPECT_EQ(run_sepllm({}).exit_code, 0);
}

TEST(CliHelp, Version) {
  const ProgramResult version = run_sepllm({"--version"});
  EXPECT_EQ(version.exit_code, 0);
  EXPECT_EQ(version.out, "sepllm " SEPLLM_VERSION "\n");
}

TEST(CliHelp, TheDocumentationIsUpToDate) {
  EXPECT_EQ(read_file(SEPLLM_SOURCE_DIR "/docs/CLI.md"), run_sepllm({"--help-markdown"}).out)
      << "run: build/release/bin/sepllm --help-markdown > docs/CLI.md";
}

TEST(CliHelp, TheTableOfTrainingSettingsIsUpToDate) {
  const std::string table = run_sepllm({"train", "--list-settings"}).out;
  EXPECT_GT(table.size(), 1000U);
  EXPECT_NE(read_file(SEPLLM_SOURCE_DIR "/docs/TRAINING.md").find("\n" + table), std::string::npos)
      << "put what `build/release/bin/sepllm train --list-settings` prints into docs/TRAINING.md";
}

}  // namespace
}  // namespace sepllm::test
