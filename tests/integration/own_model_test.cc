// The embedded model, models/sepllm-5m, is a trained one, so the results on a text can be checked for sense.
// Every policy is compared with another way of computing the same, here or in the program.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <sstream>

#include "base/rng.h"
#include "tests/support/cli.h"
#include "tests/support/golden.h"
#include "tests/support/shell_run.h"
#include "text/separators.h"
#include "text/tokenizer.h"

namespace sepllm::test {
namespace {

constexpr int64_t kTrained = 1024;  // number of tokens in a sample of its training

class OwnModel : public ::testing::Test {
 protected:
  void SetUp() override {
    SEPLLM_EMBEDDED_MODEL_OR_SKIP(folder);
    model_ = folder;
  }
  using Strings = std::vector<std::string>;

  // "COMMAND --model M ..."
  Strings with_model(const std::string& command, const Strings& more) const {
    return Strings{command, "--model", model_} + more;
  }
  Json score(const Strings& more) const {
    return run_json(with_model("score", Strings{"--text", demo_text_file()} + more));
  }
  // The losses of every token of the demo's text but the first.
  std::vector<double> losses(const Strings& more) const {
    const std::string file = folder_.file("nll");
    score(Strings{"--nll-out", file} + more);
    std::istringstream in(read_file(file));
    return {std::istream_iterator<double>(in), {}};
  }
  std::vector<int32_t> ids() const { return load_tokenizer(model_)->encode(read_file(demo_text_file())); }
  static double mean(const std::vector<double>& values) {
    double sum = 0.0;
    for (const double x : values) sum += x;
    return sum / static_cast<double>(values.size());
  }
  static double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
    EXPECT_EQ(a.size(), b.size());
    double largest = 0.0;
    for (size_t i = 0; i < std::min(a.size(), b.size()); ++i)
      largest = std::max(largest, std::abs(a[i] - b[i]));
    return largest;
  }

  std::string model_;
  TemporaryFolder folder_;
};

// The loss of token i + 1 in a row of logits.
double loss_of(std::span<const float> row, int32_t target) {
  const double top = *std::max_element(row.begin(), row.end());
  double sum = 0.0;
  for (const float x : row) sum += std::exp(double{x} - top);
  return std::log(sum) + top - double{row[static_cast<size_t>(target)]};
}

TEST_F(OwnModel, IsSmallAndSaysWhatItWasTrainedUnder) {
  EXPECT_LT(std::filesystem::file_size(model_ + "/model.safetensors"), 12'000'000U);
  const Json config = read_json(model_ + "/config.json"), facts = read_json(model_ + "/training.json");
  EXPECT_EQ(config["sepllm"]["policy"], "sep");
  EXPECT_EQ(config["sepllm"]["window"], 64);
  EXPECT_EQ(config["max_position_embeddings"], kTrained);
  EXPECT_EQ(facts["settings"]["policy"], config["sepllm"]);
  // Its policy is used if none is asked for.
  const Json as_it_is = score({"--tokens", "200"}),
             asked = score({"--tokens", "200", "--policy", "sep", "--window", "64"});
  EXPECT_EQ(as_it_is["policy"], asked["policy"]);
  EXPECT_EQ(as_it_is["nll_mean"], asked["nll_mean"]);
}

// Compares whole sequences under the pattern's definition, without a cache, with the program's chunks through
// its cache.
TEST_F(OwnModel, TheProgramScoresAsThePatternsSay) {
  const std::vector<int32_t> all = ids();
  ASSERT_GT(all.size(), 4000U);
  const auto tokens = std::span(all).first(kTrained);
  Runner runner(model_, 2);
  const auto vocab = static_cast<size_t>(runner.vocab_size());
  const TokenSet separators = make_separators(*load_tokenizer(model_), "text", runner.vocab_size(), false);
  const std::map<PolicyKind, Strings> kinds = {
      {PolicyKind::kFull, {}},
      {PolicyKind::kSep, {"--init", "4", "--window", "64"}},
      {PolicyKind::kSink, {"--init", "4", "--window", "64"}},
      {PolicyKind::kFixed, {"--init", "4", "--window", "64", "--interval", "6"}}};
  for (const auto& [kind, flags] : kinds) {
    SCOPED_TRACE(policy_name(kind));
    Policy policy;
    policy.kind = kind;
    policy.init = 4;
    policy.window = 64;
    policy.interval = 6;
    const Logits logits = runner.whole(tokens, policy, separators);
    std::vector<double> expected;
    for (size_t i = 0; i + 1 < tokens.size(); ++i) {
      expected.push_back(loss_of(std::span(logits).subspan(i * vocab, vocab), tokens[i + 1]));
    }
    const Strings own = Strings{"--policy", policy_name(kind), "--tokens", std::to_string(kTrained)} + flags;
    EXPECT_LT(largest_difference(losses(own), expected), 1e-3);
    EXPECT_LT(largest_difference(
                  losses(own + Strings{"--attention-impl", "reference", "--prefill-chunk", "100"}), expected),
              1e-3);
  }
}

TEST_F(OwnModel, AWindowOfTheWholeTextIsFullAttention) {
  const std::string n = std::to_string(kTrained);
  EXPECT_LT(largest_difference(losses({"--policy", "full", "--tokens", n}),
                               losses({"--policy", "sep", "--window", n, "--tokens", n})),
            1e-4);
}

// Compressions come at the same tokens, whatever the chunks are.
TEST_F(OwnModel, StreamsGiveTheSameTokenByToken) {
  const std::map<std::string, Strings> streams = {
      {"sep-stream", {"--window", "64", "--seps", "64", "--capacity", "196"}},
      {"sink-stream", {"--capacity", "196"}}};
  for (const auto& [policy, flags] : streams) {
    const Strings own = Strings{"--policy", policy, "--tokens", "2000"} + flags;
    EXPECT_LT(largest_difference(losses(own), losses(own + Strings{"--prefill-chunk", "1"})), 1e-3) << policy;
  }
}

// The frequencies of tokens in the text itself, which a model cannot know in advance: a model with broken
// weights, positions or attention is not better than these.
TEST_F(OwnModel, PredictsTheTextFromWhatCameBefore) {
  std::vector<int32_t> all = ids();
  std::map<int32_t, double> counts;
  for (const int32_t id : all) ++counts[id];
  double entropy = 0.0;
  const auto n = static_cast<double>(all.size());
  for (const auto& [id, count] : counts) entropy -= count / n * std::log(count / n);
  const double bytes = static_cast<double>(std::filesystem::file_size(demo_text_file()));
  const double unigram = entropy * n / std::log(2.0) / bytes;
  const std::map<std::string, Strings> policies = {
      {"full", {"--tokens", std::to_string(kTrained)}},
      {"sep", {"--tokens", std::to_string(kTrained)}},
      {"sink", {"--window", "64", "--tokens", std::to_string(kTrained)}},
      {"sep-stream", {"--window", "64", "--seps", "64", "--capacity", "196"}},
      {"sink-stream", {"--capacity", "196"}}};
  for (const auto& [policy, flags] : policies) {
    const std::vector<double> nll = losses(Strings{"--policy", policy} + flags);
    const double bits = mean(nll) * n / std::log(2.0) / bytes;
    EXPECT_LT(bits, 0.9 * unigram) << policy;
    RecordProperty("bits_per_byte_" + policy, std::to_string(bits));
  }
  RecordProperty("bits_per_byte_unigram", std::to_string(unigram));
  // The same tokens in another order: the difference shows what the context contributes.
  const double in_order = mean(losses({"--policy", "sep-stream", "--window", "64", "--capacity", "196"}));
  const Rng rng(1);
  for (size_t i = all.size() - 1; i > 0; --i) std::swap(all[i], all[rng.bits(i) % (i + 1)]);
  std::string shuffled;
  for (const int32_t id : all) shuffled += std::to_string(id) + " ";
  const Json mixed = run_json(with_model("score", {"--ids", folder_.write("ids", shuffled), "--policy",
                                                   "sep-stream", "--window", "64", "--capacity", "196"}));
  EXPECT_GT(mixed["nll_mean"].get<double>(), in_order + 1.0);
}

// The program's results on the text when the model's folder was made.
TEST_F(OwnModel, ScoresTheTextAsWhenItWasMade) {
  const Json rows = read_json(model_ + "/scores.json");
  EXPECT_GE(rows.size(), 5U);
  for (const Json& row : rows) {
    SCOPED_TRACE(row["arguments"].dump());
    const Json now = score(row["arguments"].get<Strings>());
    EXPECT_NEAR(now["nll_mean"].get<double>(), row["nll_mean"].get<double>(), 1e-4);
    EXPECT_EQ(now["kv"]["mean_keys"], row["mean_keys"]);
  }
}

// Beyond the positions of its training: static policies keep counting positions, streams do not.
TEST_F(OwnModel, AStreamKeepsItsPerplexityBeyondTheTrainedLength) {
  const std::vector<double> nll =
      losses({"--policy", "sep-stream", "--window", "64", "--seps", "64", "--capacity", "196"});
  ASSERT_GT(nll.size(), 4U * kTrained);
  const std::vector<double> first(nll.begin(), nll.begin() + kTrained),
      rest(nll.begin() + kTrained, nll.end());
  EXPECT_LT(mean(rest), mean(first) + 0.1);
}

TEST_F(OwnModel, GreedyTextDoesNotDependOnThreadsOrChunks) {
  const std::vector<int32_t> all = ids();
  const std::vector<int32_t> prompt(all.begin(), all.begin() + 300);
  std::string text;
  for (const int32_t id : prompt) text += std::to_string(id) + ",";
  text.pop_back();
  const auto generated = [&](const Strings& more) {
    return run_json(
               with_model("generate", Strings{"--prompt-ids", text, "-n", "24", "--temp", "0"} + more))["ids"]
        .get<std::vector<int32_t>>();
  };
  const Strings stream = {"--policy", "sep-stream", "--window", "64", "--seps", "32", "--capacity", "160"};
  for (const Strings& policy : {Strings{}, stream}) {
    const std::vector<int32_t> expected = generated(policy + Strings{"--threads", "1"});
    EXPECT_EQ(expected.size(), 24U);
    EXPECT_EQ(generated(policy + Strings{"--threads", "3"}), expected);
    EXPECT_EQ(generated(policy + Strings{"--prefill-chunk", "7"}), expected);
  }
  // The most likely token after the whole text, computed from the beginning each time.
  Runner runner(model_, 2);
  const auto vocab = static_cast<size_t>(runner.vocab_size());
  const TokenSet separators = make_separators(*load_tokenizer(model_), "text", runner.vocab_size(), false);
  Policy policy;
  policy.kind = PolicyKind::kSep;
  policy.init = 4;
  policy.window = 64;
  std::vector<int32_t> whole = prompt;
  for (const int32_t id : generated({})) {
    const Logits logits = runner.whole(whole, policy, separators);
    const float* last = logits.data() + logits.size() - vocab;
    EXPECT_EQ(std::max_element(last, last + vocab) - last, id);
    whole.push_back(id);
  }
}

// The cost of q8_0 is tested in quantized_quality_test.cc; here are the program's two ways to it, when
// loading and through a folder.
TEST_F(OwnModel, EightBitsScoreNearlyAlike) {
  const Strings some = {"--tokens", "1000"};
  const std::vector<double> exact = losses(some), at_load = losses(some + Strings{"--weights", "q8_0"});
  EXPECT_NEAR(mean(at_load), mean(exact), 0.005);
  EXPECT_NE(at_load, exact);
  const std::string folder = folder_.file("q8");
  run_json({"quantize", "--model", model_, "--type", "q8_0", "--out", folder});
  model_ = folder;
  EXPECT_EQ(losses(some), at_load);
}

// bf16 -> f32 -> bf16 gives the same weights, and all three have the same score to the last bit (f32 products
// of the same values).
TEST_F(OwnModel, WrittenAgainItIsTheSame) {
  const std::string wide = folder_.file("wide"), again = folder_.file("again");
  run_json({"quantize", "--model", model_, "--type", "f32", "--out", wide});
  run_json({"quantize", "--model", wide, "--type", "bf16", "--out", again});
  const SafetensorsFile before(model_ + "/model.safetensors"), after(again + "/model.safetensors");
  ASSERT_EQ(before.entries().size(), after.entries().size());
  for (const auto& [name, entry] : before.entries()) {
    const StoredTensor& other = after.entries().at(name);
    EXPECT_EQ(other.dtype, "BF16") << name;
    EXPECT_EQ(std::string_view(other.data, static_cast<size_t>(other.bytes)),
              std::string_view(entry.data, static_cast<size_t>(entry.bytes)))
        << name;
  }
  const auto expected = losses({"--tokens", "600"});
  model_ = again;
  EXPECT_EQ(losses({"--tokens", "600"}), expected);
}

TEST_F(OwnModel, Chats) {
  const Strings flags = {"--temp", "0",        "-n",         "12",       "--chat-format",
                         "plain",  "--policy", "sep-stream", "--window", "64"};
  const ProgramResult once = run_sepllm(with_model("chat", flags), "Who are you?\nWhere do you live?\n");
  ASSERT_EQ(once.exit_code, 0) << once.err;
  EXPECT_GT(once.out.size(), 20U);
  EXPECT_EQ(run_sepllm(with_model("chat", flags), "Who are you?\nWhere do you live?\n").out, once.out);
}

// It finds the model and the text, wherever it is started.
TEST_F(OwnModel, TheDemoShowsIt) {
  const ShellRun shell(folder_.path());
  ASSERT_EQ(shell.run("cd " + folder_.path() + " &&", {"demo", "--json"}), 0) << shell.err();
  const Json demo = parse_json(shell.out(), "standard output");
  EXPECT_NE(demo["model"].get<std::string>().find("models/sepllm-5m"), std::string::npos);
  EXPECT_EQ(demo["note"], "");
  ASSERT_EQ(demo["rows"].size(), 6U);
  for (const Json& row : demo["rows"]) {
    const std::string policy = row["policy"]["policy"];
    EXPECT_EQ(row["common"]["tokens"], kTrained) << policy;
    EXPECT_EQ(row["policy"].value("window", 64), 64) << policy;
    const int64_t tokens = row["tokens"];
    EXPECT_TRUE(policy == "full" ? tokens == kTrained : tokens > 4 * kTrained) << policy << " " << tokens;
  }
  EXPECT_TRUE(is_regular_file(folder_.file("demo.html")));
}

}  // namespace
}  // namespace sepllm::test
