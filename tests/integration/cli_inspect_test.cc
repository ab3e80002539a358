// `sepllm inspect`, `inspect attention`, `tokenize` and `demo`.
#include "base/file.h"
#include "tests/support/cli.h"

namespace sepllm::test {
namespace {

class CliInspect : public RandomModelTest {};

TEST_F(CliInspect, TellsWhatTheModelIs) {
  const Json all =
      run_json(with_model("inspect", {"--tokens", "1000", "--policy", "sink", "--window", "100"}));
  EXPECT_EQ(all["config"]["family"], "llama");
  EXPECT_EQ(all["config"]["layers"], 3);
  EXPECT_EQ(all["config"]["kv_heads"], 2);
  EXPECT_GT(all["weights"]["parameters"].get<int64_t>(), 10000);
  EXPECT_EQ(all["weights"]["bytes"].get<int64_t>(), 4 * all["weights"]["parameters"].get<int64_t>());
  EXPECT_EQ(all["tokenizer"]["vocab_size"], kByteTokenizerVocab);
  EXPECT_EQ(all["tokenizer"]["bos_id"], kByteTokenizerBos);
  // 3 layers, 2 kv heads of 16 floats, keys and values; 4 + 99 + the second chunk's slots at the peak.
  EXPECT_EQ(all["memory"]["kv_bytes_per_token"], 3 * 2 * 2 * 64);
  EXPECT_EQ(all["memory"]["kv_bytes"], (4 + 99 + 488) * 3 * 2 * 2 * 64);
  EXPECT_EQ(all["memory"]["full_kv_bytes"], 1000 * 3 * 2 * 2 * 64);
}

TEST_F(CliInspect, ListsTheSeparatorsOfTheRule) {
  const Json all = run_json(with_model("inspect", {"--separators", "strings:.,"}));
  EXPECT_EQ(all["separators"]["count"], 2);
  EXPECT_EQ(all["separators"]["ids"], Json::parse("[44, 46]"));
  EXPECT_EQ(all["separators"]["pieces"], Json::parse(R"([",", "."])"));
}

// The plan of the cache has code of its own: if a text has no separators to guess, it agrees with a run.
TEST_F(CliInspect, ThePlanIsWhatScoringMeasures) {
  const std::string text = write("t.txt", std::string(2500, 'x'));
  for (const char* policy : {"full", "sink", "sink-stream", "sep-stream", "fixed"}) {
    const Json plan = run_json(with_model("inspect", {"--tokens", "2501", "--policy", policy}));
    const Json run = run_json(with_model("score", {"--text", text, "--bos", "on", "--policy", policy}));
    EXPECT_EQ(run["kv"]["peak_bytes"], plan["memory"]["kv_bytes"]) << policy;
  }
}

TEST_F(CliInspect, TheTableIsForReading) {
  const ProgramResult result = run_sepllm(with_model("inspect"));
  EXPECT_EQ(result.exit_code, 0) << result.err;
  for (const char* part : {"family", "llama", "Tokenizer", "Separators by the rule 'text'", "Memory plan"}) {
    EXPECT_NE(result.out.find(part), std::string::npos) << part;
  }
}

TEST_F(CliInspect, CheckFindsNothingInSoundWeights) {
  EXPECT_EQ(run_sepllm(with_model("inspect", {"--check"})).exit_code, 0);
}

void expect_shares(const Json& shares) {
  double total = 0;
  for (const char* name : {"initial", "separator", "neighbouring", "other"}) {
    EXPECT_GE(shares[name].get<double>(), 0.0);
    total += shares[name].get<double>();
  }
  EXPECT_NEAR(total, 1.0, 1e-6);
}

TEST_F(CliInspect, AttentionWritesAPageThatNeedsNothingElse) {
  const std::string text =
      write("t.txt", "Once upon a time, there was a </script> cat. It sat, and sat; why? Nobody knew.");
  const std::string page = file("attention.html");
  const Json result = run_json({"inspect", "attention", "--model", model(), "--text", text, "--out", page,
                                "--layers", "0,2", "--heads", "1", "--tokens", "40"});
  ASSERT_EQ(result["layers"].size(), 3U);
  for (const Json& layer : result["layers"]) {
    expect_shares(layer["attention"]);
    expect_shares(layer["tokens"]);
  }
  const std::string html = read_file(page);
  EXPECT_EQ(html.rfind("<!DOCTYPE html>", 0), 0U);
  EXPECT_NE(html.find("layer 2, head 1"), std::string::npos);
  EXPECT_EQ(html.find("layer 1, head 1"), std::string::npos);
  for (const char* outside : {"http://", "https://", "src=", "@import", "url("}) {
    EXPECT_EQ(html.find(outside), std::string::npos) << outside;
  }
}

TEST_F(CliInspect, TokenizeGivesIdsAndPiecesAndBack) {
  const Json result = run_json(with_model("tokenize", {"--text", "Hi!"}));
  EXPECT_EQ(result["ids"], Json::parse("[72, 105, 33]"));
  EXPECT_EQ(result["pieces"], Json::parse(R"(["H", "i", "!"])"));
  EXPECT_EQ(run_sepllm(with_model("tokenize", {"--decode", "--text", "72,105 33"})).out, "Hi!");
  EXPECT_EQ(run_json(with_model("tokenize", {"--file", write("t.txt", "Hi!")}))["ids"], result["ids"]);
  EXPECT_EQ(run_json(with_model("tokenize", {"--text", ""}))["ids"], Json::array());
}

TEST(CliTokenize, AddsSpecialTokensOnlyWhenAsked) {
  SEPLLM_DATA_OR_SKIP(data);
  const std::vector<std::string> flags = {"tokenize",
                                          "--model",
                                          data + "/derived/stories260k-hf",
                                          "--tokenizer",
                                          data + "/weights/stories260k/tok512.bin",
                                          "--text",
                                          "Hello"};
  const Json without = run_json(flags), with = run_json(flags + std::vector<std::string>{"--special"});
  EXPECT_EQ(with["ids"].front(), 1);
  EXPECT_EQ(with["ids"].size(), without["ids"].size() + 1);
}

TEST_F(CliInspect, DemoShowsEveryPolicy) {
  const std::string page = file("demo.html");
  const ProgramResult result = run_sepllm({"demo", model(), "--out", page});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const std::string html = read_file(page);
  for (const char* policy : {"full", "sep", "sep-stream", "sink", "sink-stream", "fixed"}) {
    EXPECT_NE(result.out.find(std::string("\n") + policy + " "), std::string::npos) << policy;
    EXPECT_NE(html.find(policy), std::string::npos) << policy;
  }
  EXPECT_NE(html.find("<svg"), std::string::npos);
  EXPECT_NE(html.find("positions end at 512)"), std::string::npos);
  EXPECT_NE(html.find("perplexity of 256 tokens"), std::string::npos);
  EXPECT_EQ(html.find("http"), std::string::npos);
  EXPECT_EQ(html.find("nan"), std::string::npos);
}

TEST_F(CliInspect, DemoWorksForEveryFamily) {
  for (const char* variant : {"gpt_neox", "gpt2", "falcon-rw"}) {
    const std::string folder = file(variant);
    write_random_model(folder, {.variant = variant, .max_positions = 128});
    const Json result = run_json({"demo", folder, "--out", file("demo.html")});
    ASSERT_EQ(result["rows"].size(), 6U) << variant;
    for (const Json& row : result["rows"]) {
      EXPECT_TRUE(row["perplexity"].is_number());
      EXPECT_LE(row["common"]["tokens"].get<int64_t>(), 128);
    }
  }
}

}  // namespace
}  // namespace sepllm::test
