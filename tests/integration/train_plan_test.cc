// `sepllm train --dry-run`: the run takes what the plan says, and wrong settings are reported.
#include <filesystem>
#include <random>
#include <sstream>

#include "base/file.h"
#include "tests/support/cli.h"
#include "train/token_file.h"

namespace sepllm::test {
namespace {

using Strings = std::vector<std::string>;

class TrainPlanTest : public RandomModelTest {
 protected:
  void SetUp() override {
    std::filesystem::remove_all(run());
    TokenFileWriter writer(file("planned"), 258);
    std::mt19937 random(3);
    for (int document = 0; document < 100; ++document) {
      std::vector<int32_t> tokens;
      for (size_t i = 0; i < 100 + random() % 400; ++i)
        tokens.push_back(random() % 5 == 0 ? '.' : static_cast<int32_t>('a' + random() % 26));
      writer.add(tokens);
      writer.end_document();
    }
    writer.finish();
    config_ = write("planned.yaml",
                    "n_layers: 3\nhidden_size: 256\nn_heads: 4\ntokenizer: " + model() +
                        "\ndata: " + file("planned") +
                        "\nvalid_share: 0.1\nseq_length: 256\nglobal_batch_size: 4\nmicro_batch_size: 4\n"
                        "train_steps: 2\nlr: 1e-3\neval_samples: 2\nthreads: 2\n"
                        "policy: {policy: sep, init: 2, window: 32}\n");
  }
  Strings train(const Strings& settings) const {
    Strings out = {"train", "--config", config_, "--set", "save=" + run()};
    for (const std::string& s : settings) out.insert(out.end(), {"--set", s});
    return out;
  }
  std::string run() const { return file("planned_run"); }

  // The losses of a small run; `more`: some of its settings.
  std::vector<double> losses(Strings more) const {
    const Strings small = {"compute=f32",   "n_layers=2", "hidden_size=32",
                           "seq_length=32", "lr=1e-2",    "lr_decay_steps=120"};
    run_json(train(small + more));
    std::istringstream lines(read_file(run() + "/metrics.jsonl"));
    std::vector<double> out;
    for (std::string line; std::getline(lines, line);)
      out.push_back(parse_json(line, "metrics")["loss"].get<double>());
    return out;
  }

  std::string config_;
};

// Compares the peak of the process, minus what the program took before the run, with the sum of the plan.
TEST_F(TrainPlanTest, TheMemoryOfARunIsWhatTheDryRunSays) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers take memory of their own";
#endif
  const Strings cases[] = {
      {"n_layers=4"},
      {"activation_checkpointing=true", "global_batch_size=8", "micro_batch_size=8", "n_layers=4"},
      {"family=llama", "n_kv_heads=2", "policy=full", "seq_length=512", "micro_batch_size=2"},
      {"family=gpt2", "policy={policy: sink, init: 4, window: 32}", "vocab_size=8192"},
      {"family=falcon", "policy={policy: fixed, window: 32}", "n_layers=5", "document_mask=true"},
      {"family=llama", "activation_checkpointing=true", "threads=1", "seq_length=512"},
      {"activation_storage=bf16", "n_layers=6"},
      {"activation_storage=bf16", "activation_checkpointing=true", "n_layers=5", "family=llama"},
      {"weight_storage=bf16", "activation_storage=bf16", "n_layers=4"},
  };
  for (const Strings& settings : cases) {
    SCOPED_TRACE(testing::PrintToString(settings));
    std::filesystem::remove_all(run());
    const Json plan = run_json(train(settings) + Strings{"--dry-run"});
    ASSERT_FALSE(std::filesystem::exists(run()));
    const auto planned = plan["memory"]["total"].get<double>();
    const double measured =
        run_json(train(settings))["peak_rss_bytes"].get<double>() - plan["memory"]["program"].get<double>();
    EXPECT_GE(planned, 50e6);
    EXPECT_NEAR(measured / planned, 1.0, 0.05) << plan.dump();
    std::cout << static_cast<int64_t>(planned) << " bytes planned, " << static_cast<int64_t>(measured)
              << " measured\n";
  }
}

TEST_F(TrainPlanTest, ItSaysWhatARunWillDo) {
  const Json plan = run_json(train({"train_steps=10", "policy=full"}) + Strings{"--dry-run"});
  EXPECT_EQ(plan["steps"], 10);
  EXPECT_EQ(plan["tokens_per_step"], 4 * 256);
  EXPECT_DOUBLE_EQ(plan["visible_share"].get<double>(), 1.0);
  // 12 hidden^2 a layer and the head; 7 products with the visible pairs.
  const double tokens = 4 * 256, h = 256;
  const double vocab = (plan["parameters"].get<double>() - 3 * (12 * h * h + 13 * h) - 2 * h) / (2 * h);
  EXPECT_DOUBLE_EQ(plan["dense_flops_per_step"].get<double>(), 6 * tokens * (3 * 12 * h * h + vocab * h));
  EXPECT_DOUBLE_EQ(plan["attention_flops_per_step"].get<double>(), 14 * 3 * h * tokens * 257 / 2);
  const Json sparse = run_json(train({"policy.window=16"}) + Strings{"--dry-run"});
  EXPECT_LT(sparse["visible_share"].get<double>(), 0.5);
  EXPECT_LT(sparse["attention_flops_per_step"], plan["attention_flops_per_step"]);
}

// Documents of 64 tokens, four to a sample: the share that the dry run states is that of the definition, in
// which initial tokens and the interval of `fixed` count from where a document begins.
TEST_F(TrainPlanTest, TheIntervalCountsFromTheDocument) {
  constexpr int64_t kLength = 64, kInit = 3, kWindow = 9, kInterval = 7;
  TokenFileWriter writer(file("even"), 258);
  for (int document = 0; document < 200; ++document) {
    writer.add(std::vector<int32_t>(kLength, 'a' + document % 26));
    writer.end_document();
  }
  writer.finish();
  int64_t pairs = 0;
  for (int64_t i = 0; i < kLength; ++i) {
    for (int64_t j = 0; j <= i; ++j) {
      const bool kept = j < kInit || (j - kInit + 1) % kInterval == 0;
      pairs += kept || i - j < kWindow ? 1 : 0;
    }
  }
  const Json plan = run_json(train({"data=" + file("even"), "document_mask=true",
                                    "policy={policy: fixed, init: 3, window: 9, interval: 7}"}) +
                             Strings{"--dry-run"});
  EXPECT_DOUBLE_EQ(plan["visible_share"].get<double>(), 4.0 * static_cast<double>(pairs) / (256 * 257 / 2));
}

// No model of that size is ever created: a plan takes no memory.
TEST_F(TrainPlanTest, AModelLargerThanTheMachineIsPlanned) {
  const Json plan =
      run_json(train({"n_layers=1000", "hidden_size=16384", "n_heads=128"}) + Strings{"--dry-run"});
  EXPECT_GT(plan["memory"]["total"].get<double>(), 16 * 12.0 * 16384 * 16384 * 1000);
}

TEST_F(TrainPlanTest, ActivationsKeptInBf16TrainAsWell) {
  const Strings whole = {"train_steps=120"}, bf16 = {"activation_storage=bf16"};
  const std::vector<double> plain = losses(whole);
  ASSERT_EQ(plain.size(), 120U);
  EXPECT_LT(plain.back(), 0.8 * plain.front());
  for (const std::string replay : {"false", "true"}) {
    std::filesystem::remove_all(run());
    const Strings settings = bf16 + Strings{"activation_checkpointing=" + replay};
    const std::vector<double> packed = losses(whole + settings);
    ASSERT_EQ(packed.size(), 120U);
    EXPECT_EQ(packed.front(), plain.front());
    EXPECT_NE(packed, plain);
    for (size_t k = 0; k < plain.size(); ++k) EXPECT_NEAR(packed[k], plain[k], 0.01 * plain[k]) << k;
    // Interrupted and continued with another number of threads: the same bits.
    std::filesystem::remove_all(run());
    losses(Strings{"train_steps=50", "threads=3"} + settings);
    EXPECT_EQ(losses(whole + settings + Strings{"threads=1"}), packed);
  }
}

TEST_F(TrainPlanTest, WeightsReadInBf16TrainAsWell) {
  const Strings whole = {"train_steps=120"}, bf16 = {"weight_storage=bf16"};
  const std::vector<double> plain = losses(whole);
  std::filesystem::remove_all(run());
  const std::vector<double> rounded = losses(whole + bf16);
  ASSERT_EQ(rounded.size(), 120U);
  EXPECT_NE(rounded, plain);
  for (size_t k = 0; k < plain.size(); ++k) EXPECT_NEAR(rounded[k], plain[k], 0.01 * plain[k]) << k;
  // Interrupted and continued with another number of threads: the same bits (what is trained and saved is
  // f32).
  std::filesystem::remove_all(run());
  losses(Strings{"train_steps=50", "threads=3"} + bf16);
  EXPECT_EQ(losses(whole + bf16 + Strings{"threads=1"}), rounded);
}

TEST_F(TrainPlanTest, WrongSettingsAndDataAreClearErrors) {
  const auto refuse = [&](const Strings& settings, const Strings& parts) {
    SCOPED_TRACE(settings.back());
    expect_failure(train(settings) + Strings{"--dry-run"}, parts);
    EXPECT_FALSE(std::filesystem::exists(run()));
  };
  refuse({"hiden_size=3"}, {"hiden_size", "hidden_size"});
  refuse({"data=" + file("nothing")}, {"nothing.idx"});
  refuse({"seq_length=10000000"}, {"sample"});
  refuse({"vocab_size=100"}, {"tokenizer", "100"});
  refuse({"n_heads=3"}, {"3"});
}

}  // namespace
}  // namespace sepllm::test
