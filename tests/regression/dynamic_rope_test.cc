// Models of rope type "dynamic": a score is that of one pass over the whole text, whose length decides the
// frequencies; elsewhere they are those stated at the start. The model's own 80 positions are passed by its
// golden text of 96 tokens.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "base/file.h"
#include "tests/support/cli.h"
#include "tests/support/golden.h"

namespace sepllm::test {
namespace {

class DynamicRope : public testing::Test {
 protected:
  static constexpr size_t kTokens = 96;

  // The text's first n ids, as a file.
  std::string ids(size_t n) const {
    const GoldenFile golden(model_ + "/golden.safetensors");
    std::string out;
    for (const int32_t id : golden.ints("ids").first(n)) out += std::to_string(id) + "\n";
    return folder_.write("ids" + std::to_string(n), out);
  }
  double nll(const std::vector<std::string>& more) const {
    return run_json(std::vector<std::string>{"score", "--model", model_} + more)["nll_mean"].get<double>();
  }
  // The loss of one pass without a cache (golden_test compares it with transformers).
  double nll_of_one_pass(size_t n) const {
    Runner runner(model_);
    const GoldenFile golden(model_ + "/golden.safetensors");
    const std::span<const int32_t> ids = golden.ints("ids").first(n);
    const auto vocab = static_cast<size_t>(runner.vocab_size());
    const Logits logits = runner.whole(ids, Policy{}, TokenSet(runner.vocab_size()));
    double sum = 0;
    for (size_t t = 0; t + 1 < n; ++t) {
      double total = 0;
      for (size_t v = 0; v < vocab; ++v) total += std::exp(static_cast<double>(logits[t * vocab + v]));
      sum += std::log(total) - static_cast<double>(logits[t * vocab + static_cast<size_t>(ids[t + 1])]);
    }
    return sum / static_cast<double>(n - 1);
  }

  std::string model_ = golden_model("llama_rope_dynamic");
  TemporaryFolder folder_;
};

TEST_F(DynamicRope, AScoreIsOnePassOverTheWholeText) {
  for (const size_t n : {size_t{40}, size_t{80}, size_t{81}, kTokens}) {
    for (const char* chunk : {"7", "512"})
      EXPECT_NEAR(nll({"--ids", ids(n), "--prefill-chunk", chunk}), nll_of_one_pass(n), 1e-5) << n;
  }
  // --tokens is the text that is scored.
  EXPECT_NEAR(nll({"--ids", ids(kTokens), "--tokens", "85"}), nll_of_one_pass(85), 1e-5);
}

TEST_F(DynamicRope, TheLengthMayBeStated) {
  const std::string text = ids(kTokens);
  const double stated = nll({"--ids", text, "--rope-length", "200"});
  EXPECT_GT(std::abs(stated - nll({"--ids", text})), 1e-3);
  EXPECT_EQ(nll({"--ids", text, "--rope-length", "96"}), nll({"--ids", text}));
  // Within the trained length nothing changes.
  EXPECT_EQ(nll({"--ids", ids(40), "--rope-length", "80"}), nll({"--ids", ids(40)}));
  expect_failure({"score", "--model", golden_model("llama_mha"), "--ids", text, "--rope-length", "200"},
                 {"--rope-length is for models of rope type dynamic or longrope", "default"});
}

// A text that continues beyond the stated length is reported once.
TEST_F(DynamicRope, BeyondTheStatedLengthIsAWarning) {
  const std::vector<std::string> score = {"score", "--model", model_, "--ids", ids(kTokens)};
  EXPECT_EQ(run_sepllm(score).err.find("warning"), std::string::npos);
  const std::string err = run_sepllm(score + std::vector<std::string>{"--rope-length", "90"}).err;
  EXPECT_NE(err.find("beyond the 90 that the rotary frequencies are made for"), std::string::npos) << err;
}

// Slots of a stream with cache positions stay within the capacity: no text is too long for them.
TEST_F(DynamicRope, StreamsUseTheFrequenciesOfTheirCapacity) {
  const std::vector<std::string> stream = {"--policy", "sink-stream", "--init", "2", "--capacity", "40"};
  const std::vector<std::string> score = {"score", "--model", model_, "--ids", ids(kTokens)};
  EXPECT_EQ(run_sepllm(score + stream).err.find("warning"), std::string::npos);
  const Json kept = run_json(score + stream);
  EXPECT_FALSE(kept["policy"].contains("rope-length"));
}

// For each length there is a model with another base that has the same frequencies: the two compute the same,
// also in a stream, whose compressions rotate keys.
TEST_F(DynamicRope, IsAnotherBaseForEachLength) {
  constexpr double kLength = 101, kTrained = 80, kFactor = 3, kHeadDim = 8;
  Json config = read_json(model_ + "/config.json");
  config["rope_parameters"] = {{"rope_type", "default"},
                               {"rope_theta", 10000 * std::pow(kFactor * kLength / kTrained - (kFactor - 1),
                                                               kHeadDim / (kHeadDim - 2))}};
  config["max_position_embeddings"] = 1000;
  const std::string other = folder_.file("other");
  std::filesystem::create_directory(other);
  std::filesystem::copy(model_ + "/model.safetensors", other + "/model.safetensors");
  folder_.write("other/config.json", config.dump());
  const std::string once = read_file(ids(kTokens));
  const std::string text = folder_.write("long", once + once + once);
  const std::vector<std::string> score = {"--ids",    text, "--separators", "ids:5,11,17",
                                          "--seps",   "9",  "--policy",     "sep-stream",
                                          "--window", "20", "--capacity",   "100"};
  const double same =
      run_json(std::vector<std::string>{"score", "--model", other} + score)["nll_mean"].get<double>();
  EXPECT_NEAR(nll(score), same, 1e-6);
  EXPECT_GT(std::abs(nll(score + std::vector<std::string>{"--rope-length", "80"}) - same), 1e-4);
  EXPECT_NEAR(nll(score + std::vector<std::string>{"--kv", "q8"}), same, 0.1);
}

// Keys of a state are rotated by its frequencies: a run with others does not continue from it.
TEST_F(DynamicRope, AStateKeepsItsFrequencies) {
  const std::vector<std::string> score = {"score", "--model",    model_,    "--prefill-chunk",    "16",
                                          "--ids", ids(kTokens), "--state", folder_.file("state")};
  run_json(score + std::vector<std::string>{"--tokens", "90"});
  expect_failure(score, {"another --rope-length", "expected 90", "got 96"});
  const double resumed = nll({"--prefill-chunk", "16", "--ids", ids(kTokens), "--state",
                              folder_.file("state"), "--rope-length", "90"});
  EXPECT_EQ(resumed, nll({"--prefill-chunk", "16", "--ids", ids(kTokens), "--rope-length", "90"}));
}

TEST_F(DynamicRope, GeneratingBeginsWithThePromptsFrequencies) {
  const GoldenFile golden(model_ + "/golden.safetensors");
  const auto prompt = [&](size_t n) {
    std::string out;
    for (const int32_t id : golden.ints("ids").first(n)) out += (out.empty() ? "" : ",") + std::to_string(id);
    return out;
  };
  const auto generate = [&](size_t n, const std::vector<std::string>& more) {
    return run_json(std::vector<std::string>{"generate", "--model", model_, "--prompt-ids", prompt(n), "-n",
                                             "12", "--ignore-eos"} +
                    more);
  };
  EXPECT_EQ(generate(90, {})["policy"]["rope-length"], 90);
  EXPECT_EQ(generate(90, {})["ids"], generate(90, {"--rope-length", "90"})["ids"]);
  EXPECT_FALSE(generate(40, {})["policy"].contains("rope-length"));
}

}  // namespace
}  // namespace sepllm::test
