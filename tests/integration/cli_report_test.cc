// `sepllm report` on runs of every length and state.
#include <filesystem>

#include "base/file.h"
#include "tests/support/cli.h"

namespace sepllm::test {
namespace {

class Report : public ::testing::Test {
 protected:
  // A run of `steps` steps; NaN at every `nan_every`-th.
  std::string make_run(const std::string& name, int steps, int nan_every = 1 << 30) const {
    std::string lines;
    for (int s = 1; s <= steps; ++s) {
      const double loss = 2 + 8.0 / (1 + 0.1 * s) + 0.1 * (s * 7 % 5);
      const bool nan = s % nan_every == 0;
      lines += "{\"step\":" + std::to_string(s) + ",\"loss\":" + (nan ? "null" : std::to_string(loss)) +
               ",\"lr\":0.001,\"gradient_norm\":1.5,\"skipped\":" + (nan ? "true" : "false") +
               ",\"tokens\":" + std::to_string(s * 100) + ",\"dense_flops\":" + std::to_string(s) +
               "e9,\"attention_flops\":" + std::to_string(s) +
               "e8,\"seconds\":0.5,\"elapsed\":" + std::to_string(0.5 * s) +
               (s % 10 == 0 ? ",\"valid_loss\":" + std::to_string(loss + 0.2) : "") + "}\n";
    }
    std::filesystem::create_directories(folder_.file(name));
    write_file_atomically(folder_.file(name) + "/metrics.jsonl", lines);
    return folder_.file(name);
  }
  std::string page(const std::string& run) const { return read_file(run + "/report.html"); }
  static size_t count(const std::string& text, const std::string& part) {
    size_t n = 0;
    for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
    return n;
  }
  TemporaryFolder folder_;
};

TEST_F(Report, AnyNumberOfSteps) {
  for (const int steps : {0, 1, 2, 30, 100000}) {
    SCOPED_TRACE(steps);
    const std::string run = make_run("r" + std::to_string(steps), steps);
    const ProgramResult result = run_sepllm({"report", run});
    ASSERT_EQ(result.exit_code, 0) << result.err;
    EXPECT_NE(result.out.find("steps"), std::string::npos);
    const std::string html = page(run);
    EXPECT_EQ(count(html, "class=\"plot\""), steps == 0 ? 0U : 7U);
    EXPECT_EQ(count(html, "<svg"), count(html, "</svg>"));
    EXPECT_LT(html.size(), 300U * 1024);
    EXPECT_EQ(html.find("nan"), std::string::npos);
    EXPECT_EQ(html.find("inf"), std::string::npos);
    EXPECT_EQ(html.find("http"), std::string::npos);  // nothing from elsewhere
    EXPECT_EQ(html.find("<script"), std::string::npos);
    EXPECT_EQ(html.find("no step has finished yet") != std::string::npos, steps == 0);
  }
}

TEST_F(Report, StepsLeftOutAreMarkedAndLossesThatAreNoNumbersBreakTheLine) {
  const std::string run = make_run("a", 60, 20);
  ASSERT_EQ(run_sepllm({"report", run}).exit_code, 0);
  EXPECT_EQ(count(page(run), "class=\"cross\""), 5U * 3);  // in the four plots of losses and the norm's
  const std::string all = make_run("all", 5, 1);
  ASSERT_EQ(run_sepllm({"report", all}).exit_code, 0);
  EXPECT_EQ(page(all).find("Loss by step"), std::string::npos);
  EXPECT_NE(page(all).find("Learning rate"), std::string::npos);
}

TEST_F(Report, RunsSideBySide) {
  const std::string a = make_run("a", 50), b = make_run("b<i>", 100);
  write_file_atomically(a + "/run.json",
                        R"({"parameters": 5, "settings": {"lr": 0.5, "seed": 7, "policy": {"window": 3}}})");
  write_file_atomically(b + "/run.json",
                        R"({"parameters": 5, "settings": {"lr": 0.25, "seed": 7, "policy": {"window": 3}}})");
  write_file_atomically(b + "/samples.jsonl",
                        "{\"step\": 9, \"text\": \"To be & <b>\"}\n{\"step\": 10, \"te");
  const std::string out = folder_.file("two.html");
  ASSERT_EQ(run_sepllm({"report", a, "--out", out, b}).exit_code, 0);
  const std::string html = read_file(out);
  EXPECT_NE(html.find("2 training runs"), std::string::npos);
  EXPECT_NE(html.find("Cost of the same loss"), std::string::npos);
  EXPECT_NE(html.find("<code>lr</code></td><td class=\"setting\">0.5</td><td class=\"setting\">0.25"),
            std::string::npos);
  EXPECT_NE(html.find("2 settings that are the same"), std::string::npos);
  EXPECT_NE(html.find("To be &amp; &lt;b&gt;"), std::string::npos);
  EXPECT_EQ(html.find("b<i>"), std::string::npos);
  EXPECT_FALSE(file_exists(a + "/report.html"));
  const Json rows = run_json({"report", a, b});
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows[0]["run"], "a");
  EXPECT_EQ(rows[0]["steps"], 50);
  EXPECT_EQ(rows[1]["tokens"], 10000);
  EXPECT_EQ(rows[1]["tokens_per_second"], 200);
  EXPECT_EQ(rows[1]["seconds"], 50);
  EXPECT_TRUE(rows[1]["train_steps"].is_null());
  EXPECT_FALSE(file_exists(a + "/report.html"));
}

TEST_F(Report, WhatIsNoRunIsAClearError) {
  std::filesystem::create_directories(folder_.file("empty"));
  expect_failure({"report", folder_.file("empty")}, {"empty", "metrics.jsonl"});
  expect_failure({"report", folder_.file("none")}, {"none", "metrics.jsonl"});
  expect_failure({"report"}, {"no run given"});
  const std::string run = make_run("a", 3);
  expect_failure({"report", run, folder_.file("empty")}, {"empty"});
  write_file_atomically(run + "/run.json", "[1]");
  expect_failure({"report", run}, {"run.json"});
}

}  // namespace
}  // namespace sepllm::test
