#include "train/run_files.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "tests/support/expect_error.h"
#include "tests/support/support.h"

namespace sepllm {
namespace {

TEST(Metrics, ALineIsReadAsItWasWritten) {
  StepMetrics m{.step = 3, .loss = 2.5, .lr = 1e-3, .gradient_norm = 0.7, .skipped = true, .tokens = 96};
  m.dense_flops = 1e15;
  m.attention_flops = 2e13;
  m.visible_share = 0.25;
  m.seconds = 0.5;
  m.elapsed = 1.75;
  m.gemm_share = 0.6;
  m.valid_loss = 2.75;
  const auto read = parse_metrics(Json::parse(metrics_json(m).dump()));
  ASSERT_TRUE(read);
  EXPECT_EQ(metrics_json(*read), metrics_json(m));
  // A loss that is no number is null in JSON.
  m.loss = NAN;
  m.valid_loss.reset();
  const auto broken = parse_metrics(Json::parse(metrics_json(m).dump()));
  ASSERT_TRUE(broken);
  EXPECT_TRUE(std::isnan(broken->loss));
  EXPECT_FALSE(broken->valid_loss);
  EXPECT_FALSE(parse_metrics(Json::parse("[]")));
  EXPECT_FALSE(parse_metrics(Json::parse("{\"loss\": 1}")));
  EXPECT_FALSE(parse_metrics(Json::parse("{\"step\": \"1\"}")));
  EXPECT_FALSE(parse_metrics(Json::parse("{\"step\": -1}")));
}

class RunFiles : public ::testing::Test {
 protected:
  RunRecord read(const std::string& metrics, const std::string& samples = "", const std::string& facts = "") {
    folder_.write("metrics.jsonl", metrics);
    if (!samples.empty()) folder_.write("samples.jsonl", samples);
    if (!facts.empty()) folder_.write("run.json", facts);
    return read_run(folder_.path());
  }
  test::TemporaryFolder folder_;
};

TEST_F(RunFiles, AFolderWithoutMetricsIsNoRun) {
  test::expect_error([&] { read_run(folder_.path()); }, ErrorCode::kNotFound, {"metrics.jsonl"});
  test::expect_error([&] { read_run(folder_.path() + "/none"); }, ErrorCode::kNotFound, {"none"});
  EXPECT_TRUE(read("").steps.empty());
  const RunSummary s = summarise(read(""));
  EXPECT_EQ(s.steps, 0);
  EXPECT_TRUE(std::isnan(s.loss));
}

TEST_F(RunFiles, LinesThatAreBrokenOrComeTwice) {
  const RunRecord run = read(
      "{\"step\":1,\"loss\":5,\"tokens\":10,\"seconds\":2}\n"
      "no json\n"
      "{\"step\":2,\"loss\":4,\"tokens\":20,\"seconds\":2}\n"
      "{\"step\":3,\"loss\":9,\"tokens\":30,\"seconds\":2}\n"
      "{\"step\":2,\"loss\":3,\"tokens\":20,\"seconds\":1}\n\n"
      "{\"step\":3,\"loss\":null,\"skipped\":true,\"valid_loss\":3.5}\n"
      "{\"step\":4,\"loss\":2,\"tok",
      "{\"step\":2,\"text\":\"a\"}\n{\"step\":4,\"text\":\"b\"}\n{\"step\":3,\"text\":\"c\"}\n{\"step\":4}\n",
      "{\"parameters\": 17, \"settings\": {\"lr\": 1}}");
  EXPECT_EQ(run.unreadable_lines, 2);
  ASSERT_EQ(run.steps.size(), 3U);
  EXPECT_EQ(run.steps[1].loss, 3);
  EXPECT_TRUE(std::isnan(run.steps[2].loss));
  EXPECT_EQ(run.steps[1].elapsed, 3);  // for older runs: the sum of the steps that count
  ASSERT_EQ(run.samples.size(), 2U);
  EXPECT_EQ(run.samples[1].text, "c");
  EXPECT_EQ(run.parameters, 17);
  const std::vector<double> speed = speeds(run);
  EXPECT_DOUBLE_EQ(speed[0], 5);
  EXPECT_DOUBLE_EQ(speed[1], 10);
  EXPECT_TRUE(std::isnan(speed[2]));
  const RunSummary s = summarise(run);
  EXPECT_EQ(s.steps, 3);
  EXPECT_EQ(s.skipped, 1);
  EXPECT_EQ(s.valid_loss, 3.5);
  EXPECT_TRUE(summary_json(run)["gemm_share"].is_null());
}

TEST_F(RunFiles, FactsThatAreNoJsonAreAnError) {
  test::expect_error([&] { read("", "", "{\"parameters\""); }, ErrorCode::kBadFile, {"run.json"});
}

TEST(Smoothed, FollowsAtOnceAtFirstAndKeepsTheMean) {
  EXPECT_EQ(smoothed({}), std::vector<double>());
  EXPECT_EQ(smoothed({3}), std::vector<double>{3});
  std::vector<double> noise;
  for (int i = 0; i < 5000; ++i) noise.push_back(2 + (i % 2 == 0 ? 1 : -1));
  const std::vector<double> line = smoothed(noise);
  EXPECT_NEAR(line.back(), 2, 0.02);
  EXPECT_EQ(line[0], 3);
  noise[2500] = NAN;
  EXPECT_NEAR(smoothed(noise)[2500], 2, 0.03);
  EXPECT_TRUE(std::isnan(smoothed({NAN, 1})[0]));
}

}  // namespace
}  // namespace sepllm
