// GGUF files wherever a model is given: a model that is written as GGUF gives what its folder gives.

#include <filesystem>
#include <string>
#include <vector>

#include "base/file.h"
#include "tests/support/train_run.h"

namespace sepllm::test {
namespace {

class CliGguf : public TrainRun {
 protected:
  // The suite's model as GGUF.
  std::string gguf() const {
    const std::string path = in("model.gguf");
    if (file_exists(path)) return path;
    EXPECT_EQ(run_sepllm({"export", "--model", model(), "--format", "gguf", "--out", path}).exit_code, 0);
    return path;
  }
};

TEST_F(CliGguf, GenerateScoreAndInspectGiveWhatTheFolderGives) {
  const std::string text = write("text.txt", "One, two. Three; four!\nFive?\n");
  struct Case {
    Strings command;
    const char* key;  // of the result that is compared
  };
  const std::vector<Case> cases = {{{"generate", "--prompt", "Hello, world.", "-n", "12"}, "text"},
                                   {{"score", "--text", text, "--policy", "sep-stream", "--seps", "4",
                                     "--window", "6", "--capacity", "20"},
                                    "nll_mean"},
                                   {{"tokenize", "--text", "a b <|end|>", "--special"}, "ids"},
                                   {{"inspect"}, "separators"}};
  for (const Case& c : cases) {
    const Json ours = run_json(c.command + Strings{"--model", gguf()});
    const Json theirs = run_json(c.command + Strings{"--model", model()});
    ASSERT_TRUE(ours.contains(c.key)) << c.command[0];
    EXPECT_EQ(ours[c.key], theirs[c.key]) << c.command[0];
  }
}

TEST_F(CliGguf, QuantizedFilesScoreAsQuantizedFolders) {
  const std::string text = write("text.txt", "One, two. Three; four!\nFive?\n");
  for (const std::string type : {"q8_0", "q4_0", "bf16"}) {
    const std::string file = in(type + ".gguf"), folder = in(type), again = in(type + "-again");
    ASSERT_EQ(run_sepllm({"quantize", "--model", model(), "--type", type, "--out", file}).exit_code, 0);
    ASSERT_EQ(run_sepllm({"quantize", "--model", model(), "--type", type, "--out", folder}).exit_code, 0);
    ASSERT_EQ(run_sepllm({"quantize", "--model", gguf(), "--type", type, "--out", again}).exit_code, 0);
    const Json expected = run_json({"score", "--model", folder, "--text", text})["nll_mean"];
    EXPECT_EQ(run_json({"score", "--model", file, "--text", text})["nll_mean"], expected) << type;
    EXPECT_EQ(run_json({"score", "--model", again, "--text", text})["nll_mean"], expected) << type;
  }
}

// Also from blocks: a step is that from the numbers that they stand for.
TEST_F(CliGguf, TrainingFromAFileIsTrainingFromItsFolder) {
  const std::string settings = read_file(config_);
  const auto trained = [&](const std::string& from, const std::string& run) {
    const std::string config =
        write("from.yaml", "init_from: " + from + "\n" + settings.substr(settings.find("tokenizer:")));
    run_json({"train", "--config", config, "--set", "save=" + in(run), "--set", "train_steps=10"});
    return trace(run);
  };
  for (const std::string type : {"f32", "q8_0", "q4_0"}) {
    const std::string file = in(type + ".gguf"), folder = in(type + "-folder");
    ASSERT_EQ(run_sepllm({"quantize", "--model", model(), "--type", type, "--out", file}).exit_code, 0);
    ASSERT_EQ(run_sepllm({"export", "--model", file, "--out", folder}).exit_code, 0);
    EXPECT_TRUE(file_exists(folder + "/tokenizer.json"));
    const std::vector<Json> from_file = trained(file, type + "-a");
    ASSERT_EQ(from_file.size(), 11U);  // and the validation before the first step
    EXPECT_EQ(from_file, trained(folder, type + "-b")) << type;
    EXPECT_TRUE(weights(type + "-a") == weights(type + "-b")) << type;
  }
}

// transformers takes its own default where a config.json does not say that there is none.
TEST_F(CliGguf, TheFolderOfAFileWithoutPaddingSaysSo) {
  const std::string folder = in("folder");
  ASSERT_EQ(run_sepllm({"export", "--model", gguf(), "--out", folder}).exit_code, 0);
  const Json config = parse_json(read_file(folder + "/config.json"), "config.json");
  ASSERT_TRUE(config.contains("pad_token_id"));
  EXPECT_TRUE(config["pad_token_id"].is_null());
}

TEST_F(CliGguf, ARunIsExportedAsGguf) {
  run_json(train("run", {"--set", "train_steps=3"}));
  const std::string file = in("trained.gguf");
  ASSERT_EQ(run_sepllm({"export", "--run", in("run"), "--format", "gguf", "--out", file}).exit_code, 0);
  const std::string text = write("text.txt", "aaa, bbb. ccc; ddd!\n");
  const Json ours = run_json({"score", "--model", file, "--text", text});
  const Json theirs = run_json({"score", "--model", in("run") + "/model", "--text", text});
  EXPECT_EQ(ours["nll_mean"], theirs["nll_mean"]);
  EXPECT_EQ(ours["policy"], theirs["policy"]) << "the policy that it was trained with";
  EXPECT_FALSE(file_exists(file + ".folder"));
}

TEST_F(CliGguf, WhatCannotBeDoneIsOneClearError) {
  expect_failure({"export", "--out", in("x")}, {"no run given"});
  expect_failure({"export", "--model", model(), "--out", in("x")}, {"Hugging Face folder already"});
  expect_failure({"export", "--run", in("none"), "--model", model(), "--out", in("x")},
                 {"--run and --model"});
  expect_failure({"generate", "--model", in(""), "--prompt", "a"}, {"config.json"});
  std::filesystem::create_directory(in("lone"));
  std::filesystem::copy(gguf(), in("lone/model.gguf"));
  expect_failure({"generate", "--model", in("lone"), "--prompt", "a"},
                 {"given by its file", "lone/model.gguf"});
  std::string bytes = read_file(gguf());
  const std::string cut = write("cut.gguf", bytes.substr(0, bytes.size() / 2));
  expect_failure({"generate", "--model", cut, "--prompt", "a"}, {"cut.gguf", "truncated"});
  bytes[4] = 9;
  expect_failure({"generate", "--model", write("version.gguf", bytes), "--prompt", "a"}, {"version"});
}

}  // namespace
}  // namespace sepllm::test
