// Every wrong use of the command line ends with exit code 1 and one clear line.
#include <sys/stat.h>

#include "tests/support/cli.h"
#include "tests/support/packed.h"

namespace sepllm::test {
namespace {

class CliErrors : public RandomModelTest {};

TEST(CliUsage, UnknownCommandsAndFlagsNameTheNearest) {
  expect_failure({"generat"}, {"unknown command 'generat'", "did you mean 'generate'"});
  expect_failure({"bench"}, {"unknown command 'bench'", "did you mean 'bench decode'"});
  expect_failure({"frobnicate"}, {"unknown command", "--help"});
  expect_failure({"--verison"}, {"unknown option"});
  expect_failure({"generate", "--modle", "x"}, {"unknown option --modle", "did you mean --model?"});
  expect_failure({"score", "--polcy=sep"}, {"unknown option --polcy", "did you mean --policy?"});
  expect_failure({"score", "stray"}, {"unexpected argument 'stray'"});
  expect_failure({"generate", "--model"}, {"--model"});
  expect_failure({"generate", "--model", "a", "--model", "b"}, {"b: no such model folder"});
}

TEST(CliUsage, ValuesOutOfRangeNameTheRange) {
  const std::vector<std::vector<std::string>> cases = {{"generate", "--threads", "0"},
                                                       {"generate", "--threads", "10000"},
                                                       {"generate", "-n", "-1"},
                                                       {"generate", "-n", "many"},
                                                       {"generate", "-n", "99999999999999999999"},
                                                       {"generate", "--temp", "-1"},
                                                       {"generate", "--temp", "nan"},
                                                       {"generate", "--temp", "inf"},
                                                       {"generate", "--top-p", "-1"},
                                                       {"generate", "--top-p", "2"},
                                                       {"generate", "--repeat-penalty", "0"},
                                                       {"score", "--window", "0"},
                                                       {"score", "--init", "-1"},
                                                       {"score", "--capacity", "-5"},
                                                       {"score", "--seps", "-1"},
                                                       {"score", "--seps", "all"},
                                                       {"score", "--interval", "0"},
                                                       {"score", "--prefill-chunk", "0"},
                                                       {"score", "--policy", "best"},
                                                       {"score", "--kv", "q3"},
                                                       {"score", "--tokens", "0"},
                                                       {"generate", "--bos", "maybe"},
                                                       {"generate", "--attention-impl", "fast"},
                                                       {"generate", "--weights", "q1"}};
  for (const auto& c : cases) {
    const std::string flag = c[1];
    expect_failure({c[0], "--model", "m", flag, c[2]}, {"wrong value for " + flag, "expected", c[2]});
  }
}

TEST_F(CliErrors, ModelsThatAreNotThere) {
  expect_failure({"generate"}, {"no model given", "--model PATH"});
  expect_failure({"generate", "--model", "/nonexistent/model"}, {"/nonexistent/model"});
  expect_failure({"generate", "--model", write("plain.txt", "text")}, {"plain.txt"});
  expect_failure({"generate", "--model", "a", "--shape", "llama-160m"}, {"--model and --shape given"});
  expect_failure({"generate", "--shape", "llama-9"}, {"--shape", "llama-160m", "llama-9"});
  expect_failure({"generate", "--shape", "pythia-14m", "--prompt", "a"}, {"pythia-14m", "no tokenizer"});
  expect_failure({"tokenize", "--text", "a"}, {"no tokenizer given"});
  expect_failure({"tokenize", "--tokenizer", "/nonexistent/tok.bin", "--text", "a"},
                 {"/nonexistent/tok.bin"});
}

TEST_F(CliErrors, Prompts) {
  expect_failure(with_model("generate", {"--prompt", "a", "--prompt-ids", "1"}), {"more than one prompt"});
  expect_failure(with_model("generate", {"--prompt-ids", "1,2,258"}),
                 {"--prompt-ids", "position 2", "from 0 to 257", "258"});
  expect_failure(with_model("generate", {"--prompt-ids", "-1"}), {"position 0", "-1"});
  expect_failure(with_model("generate", {"--prompt-ids", "1,x"}), {"position 1", "'x'"});
  expect_failure(with_model("generate", {"--prompt-ids", "1", "--bos", "on"}), {"--bos", "--prompt-ids"});
  expect_failure(with_model("generate", {"--prompt", "", "--bos", "off"}), {"empty prompt"});
  expect_failure(with_model("generate", {"--prompt-file", file("")}), {"folder"});
  expect_failure(with_model("generate", {"--prompt-file", file("absent.txt")}), {"absent.txt"});
  expect_failure(with_model("generate", {"--prompt-file", write("bad.txt", "abc\xff\xfe")}),
                 {"bad.txt", "invalid UTF-8", "byte 3"});
  expect_failure(with_model("generate", {"--prompt", "ab\xc3"}), {"UTF-8", "byte 2"});
}

// A file that is not text is called by its kind, wherever a text is read.
TEST_F(CliErrors, FilesThatAreNoText) {
  const std::string packed = write("a.txt.gz", gzip("a text that is packed")),
                    pdf = write("a.txt", "%PDF-1.7\n%\xe2\xe3\n");
  expect_failure(with_model("score", {"--text", packed}),
                 {"a.txt.gz", "invalid UTF-8", "a file packed by gzip"});
  expect_failure(with_model("score", {"--text", pdf}), {"a.txt", "a PDF document"});
  expect_failure(with_model("generate", {"--prompt-file", packed}), {"a.txt.gz", "a file packed by gzip"});
  expect_failure(with_model("tokenize", {"--file", pdf}), {"a.txt", "a PDF document"});
  const ProgramResult json =
      run_sepllm(with_model("score", {"--text", write("a.jsonl", "{\"text\": \"one\"}\n")}));
  EXPECT_EQ(json.exit_code, 0);
  EXPECT_NE(json.err.find("a.jsonl: looks like JSON"), std::string::npos) << json.err;
}

TEST_F(CliErrors, EmptyPromptWithoutBosIsAnError) {
  const std::string folder = file("no-bos");
  write_random_model(folder, {.variant = "gpt2", .extra_config = {{"bos_token_id", nullptr}}});
  // Without its tokenizer's files the model has no BOS at all.
  for (const char* name : {"tokenizer.json", "tokenizer_config.json"})
    std::remove((folder + "/" + name).c_str());
  expect_failure({"generate", "--model", folder}, {"empty", "BOS"});
  expect_failure({"generate", "--model", folder, "--prompt", "a"}, {"no tokenizer", "--tokenizer"});
}

TEST_F(CliErrors, TextsToScore) {
  const std::string text = write("text.txt", "Hello, world. This is a text.");
  const std::string empty = write("empty.txt", "");
  expect_failure(with_model("score"), {"nothing to score", "--text"});
  expect_failure(with_model("score", {"--text", text, "--ids", text}), {"two inputs"});
  expect_failure(with_model("score", {"--text", empty}), {"empty.txt", "too little text"});
  expect_failure(with_model("score", {"--ids", empty}), {"empty.txt", "too little text"});
  expect_failure(with_model("score", {"--ids", write("one.ids", "7")}), {"at least 2 tokens", "got 1"});
  expect_failure(with_model("score", {"--ids", write("far.ids", "7 8\n900 1")}),
                 {"far.ids", "position 2", "900"});
  expect_failure(with_model("score", {"--ids", write("word.ids", "7 eight")}), {"word.ids", "'eight'"});
  expect_failure(with_model("score", {"--text", text, "--tokens", "1000"}),
                 {"--tokens", "from 2 to 29", "1000"});
  expect_failure(with_model("score", {"--text", file("")}), {"folder"});
  expect_failure(with_model("score", {"--text", write("latin.txt", "caf\xe9!")}), {"latin.txt", "byte 3"});
}

TEST_F(CliErrors, PoliciesThatContradictThemselves) {
  const std::string text = write("t.txt", "Hello, world.");
  const auto score = [&](const std::vector<std::string>& more, const std::vector<std::string>& parts) {
    expect_failure(with_model("score", {"--text", text}) + more, parts);
  };
  score({"--policy", "sep-stream", "--init", "4", "--seps", "64", "--window", "732"}, {"capacity", "800"});
  score({"--policy", "sink-stream", "--window", "64"}, {"--window", "sink-stream"});
  score({"--policy", "sep-stream", "--layer-window", "0=full"}, {"layer-window"});
  score({"--policy", "sep", "--layer-window", "7=full"}, {"7"});
  score({"--policy", "sep", "--layer-window", "0=none"}, {"--layer-window", "0=none"});
  score({"--policy", "sep", "--positions", "cache"}, {"positions"});
  score({"--policy", "sep", "--separators", "words"}, {"words"});
  score({"--policy", "sep", "--separators", "ids:1,999"}, {"999"});
  score({"--policy", "sep", "--separators", "paper"}, {"paper"});
}

TEST_F(CliErrors, LearnedPositionsEndAtTheLimit) {
  const std::string folder = file("gpt2");
  write_random_model(folder, {.variant = "gpt2", .max_positions = 64});
  const std::string text = write("long.txt", std::string(100, 'a'));
  expect_failure({"score", "--model", folder, "--text", text}, {"64"});
}

TEST_F(CliErrors, OutputsThatCannotBeWritten) {
  const std::string text = write("t.txt", "Hello, world. How are you?");
  expect_failure(with_model("inspect", {"--out", "x"}), {"unknown option --out"});
  expect_failure({"inspect", "attention", "--model", model(), "--text", text, "--layers", "9"}, {"layer 9"});
  expect_failure({"inspect", "attention", "--model", model(), "--text", text, "--heads", "4"}, {"head 4"});
  expect_failure({"inspect", "attention", "--model", model()}, {"no text given"});
}

TEST_F(CliErrors, Quantize) {
  expect_failure({"quantize", "--type", "q8_0", "--out", "o"}, {"no model given", "--model"});
  expect_failure(with_model("quantize", {"--out", "o"}), {"no type given", "q4_0"});
  expect_failure(with_model("quantize", {"--type", "q8_0"}), {"no folder or file to write given", "--out"});
  expect_failure(with_model("quantize", {"--type", "q5_k", "--out", "o"}),
                 {"wrong value for --type", "q5_k"});
  expect_failure(with_model("quantize", {"--type", "q8_0", "--out", model()}), {"already exists"});
}

TEST_F(CliErrors, Tokenize) {
  expect_failure(with_model("tokenize"), {"no input given"});
  expect_failure(with_model("tokenize", {"--text", "a", "--file", "b"}), {"several inputs"});
  expect_failure(with_model("tokenize", {"--text", "99999", "--decode"}), {"position 0", "99999"});
  expect_failure(with_model("tokenize", {"--text", "a\xff"}), {"byte 1"});
}

TEST_F(CliErrors, Chat) {
  expect_failure(with_model("chat", {"--chat-format", "klingon"}), {"klingon"});
  expect_failure(with_model("chat", {"--json"}), {"--json"});
}

}  // namespace
}  // namespace sepllm::test
