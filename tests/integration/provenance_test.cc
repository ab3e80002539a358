// Results say where they come from: version, commit, processor, threads and, if it matters, the seed.
#include <gtest/gtest.h>

#include "base/file.h"
#include "base/json.h"
#include "tests/support/cli.h"
#include "tests/support/support.h"

namespace sepllm {
namespace {

using test::run_sepllm;

const std::string kModel = SEPLLM_SOURCE_DIR "/models/sepllm-5m";

void expect_program(const Json& program, int threads) {
  EXPECT_EQ(program.at("threads"), threads);
  EXPECT_EQ("sepllm " + program.at("version").get<std::string>() + "\n", run_sepllm({"--version"}).out);
  for (const char* key : {"commit", "cpu", "instruction_sets"}) EXPECT_NE(program.at(key), "") << key;
}

TEST(Provenance, IsInTheJsonOfResults) {
  const auto generated = Json::parse(run_sepllm({"generate", "--model", kModel, "--prompt", "a", "-n", "2",
                                                 "--threads", "1", "--seed", "7", "--json"})
                                         .out);
  expect_program(generated.at("program"), 1);
  EXPECT_EQ(generated.at("program").at("seed"), 7);
  const auto attention =
      Json::parse(run_sepllm({"bench", "attention", "--tokens", "64", "--repeats", "1", "--heads", "1",
                              "--kv-heads", "1", "--pass", "forward", "--threads", "2", "--json"})
                      .out);
  ASSERT_FALSE(attention.empty());
  for (const Json& row : attention) expect_program(row.at("program"), 2);
}

TEST(Provenance, IsOnPages) {
  const test::TemporaryFolder folder;
  const std::string text = folder.write("text.txt", "One, two. Three!\n"), page = folder.file("page.html");
  const auto run = run_sepllm({"inspect", "attention", "--model", kModel, "--text", text, "--out", page});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_NE(read_file(page).find("Made by sepllm"), std::string::npos);
}

}  // namespace
}  // namespace sepllm
