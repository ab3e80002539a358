// `sepllm tune` on the embedded model: the budget holds, the report is on text that the search did not see,
// and other commands read what it writes.
#include <cmath>
#include <fstream>

#include "base/file.h"
#include "tests/support/cli.h"

namespace sepllm::test {
namespace {

const std::string kModel = SEPLLM_SOURCE_DIR "/models/sepllm-5m";
const std::string kText = SEPLLM_SOURCE_DIR "/apps/alice.txt";

class Tune : public testing::Test {
 protected:
  std::vector<std::string> arguments(const std::vector<std::string>& more) const {
    std::vector<std::string> out = {"tune",  "--model", kModel,         "--text", kText,
                                    "--out", page_,     "--policy-out", policy_};
    out.insert(out.end(), more.begin(), more.end());
    return out;
  }
  // The row with this role, or the best of several.
  static Json best(const Json& result, const std::string& role) {
    Json out;
    for (const Json& row : result["rows"]) {
      if (row["role"] == role && (out.is_null() || row["nll_mean"] < out["nll_mean"])) out = row;
    }
    return out;
  }

  TemporaryFolder folder_;
  const std::string page_ = folder_.file("tune.html"), policy_ = folder_.file("policy.json");
};

TEST_F(Tune, FindsAPolicyWithinTheBudgetThatOtherCommandsRead) {
  const Json result = run_json(
      arguments({"--keys", "25%", "--context", "256", "--search-tokens", "512", "--report-tokens", "512"}));
  const Json full = best(result, "full"), found = best(result, "found"), fixed = best(result, "fixed");
  EXPECT_EQ(result["layers"].size(), 5U);
  EXPECT_EQ(full["share"], 1.0);
  EXPECT_NEAR(full["mean_keys"].get<double>(), 128.5, 1e-9);  // the mean of 1 to 256
  // The separators of the other half may be denser, so a budget that fits here may be passed a little there.
  EXPECT_LE(found["share"].get<double>(), 0.27);
  EXPECT_GE(found["share"].get<double>(), 0.2);
  EXPECT_LE(found["nll_mean"].get<double>(), fixed["nll_mean"].get<double>() + 0.05);
  int families = 0;
  for (const char* kind : {"sink", "sep", "fixed", "sink-stream", "sep-stream"}) {
    for (const Json& row : result["rows"]) {
      if (row["role"] != "fixed" || row["policy"]["policy"] != kind) continue;
      EXPECT_LE(row["share"].get<double>(), 0.27) << kind;
      ++families;
      break;
    }
  }
  EXPECT_EQ(families, 5);

  // The file gives other commands the same policy, and a flag of theirs still wins.
  const std::vector<std::string> score = {"score",    "--model", kModel,          "--text", kText,
                                          "--tokens", "300",     "--policy-file", policy_};
  EXPECT_EQ(run_json(score)["policy"], result["sepllm"]);
  std::vector<std::string> full_score = score;
  full_score.insert(full_score.end(), {"--policy", "full"});
  EXPECT_EQ(run_json(full_score)["policy"]["policy"], "full");

  const std::string page = read_file(page_);
  for (const char* part :
       {"The answer", "How to use it", "--policy-file", "<svg", "All policies on unseen text"})
    EXPECT_NE(page.find(part), std::string::npos) << part;
  EXPECT_EQ(page.find("http://"), page.find("http://www.w3.org"));  // nothing is loaded from elsewhere
}

// What a policy costs is what `score` measures under it.
TEST_F(Tune, CostsAreThoseThatRunsMeasure) {
  const Json result = run_json(
      arguments({"--keys", "40", "--context", "200", "--search-tokens", "200", "--report-tokens", "200"}));
  // The only piece of the second half begins in its middle; the first half's is the beginning of the text.
  for (const Json& row : result["rows"]) {
    if (row["role"] != "fixed") continue;
    EXPECT_LE(row["mean_keys"].get<double>(), 44) << row["name"];
    const std::string file = folder_.file("row.json");
    std::ofstream(file) << json_text(row["policy"]);
    const bool bos = run_json({"inspect", "--model", kModel})["tokenizer"]["adds_bos"];
    const Json scored = run_json({"score", "--model", kModel, "--text", kText, "--tokens",
                                  std::to_string(bos ? 199 : 200), "--policy-file", file});
    EXPECT_LE(scored["kv"]["mean_keys"].get<double>(), 40.0) << row["name"];
    EXPECT_GE(scored["kv"]["mean_keys"].get<double>(), 30.0) << row["name"];
  }
}

TEST_F(Tune, RefusesWhatCannotBe) {
  expect_failure(arguments({}), {"no budget given", "--keys 25%"});
  expect_failure(arguments({"--keys", "0%"}), {"--keys", "0%"});
  expect_failure(arguments({"--keys", "12x"}), {"--keys", "12x"});
  expect_failure(arguments({"--bytes", "3Q"}), {"--bytes", "3Q"});
  expect_failure(arguments({"--keys", "25%", "--context", "2000"}), {"position limit", "1024"});
  expect_failure({"score", "--model", kModel, "--text", kText, "--policy-file", folder_.file("none")},
                 {"none"});
  expect_failure({"score", "--model", kModel, "--text", kText, "--policy-file", ""}, {"--policy-file", "''"});
  for (const std::vector<std::string>& budget :
       {std::vector<std::string>{"--keys", "100%"}, {"--bytes", "64MiB"}, {"--keys", "40"}}) {
    std::vector<std::string> all = arguments({"--context", "64"});
    all.insert(all.end(), budget.begin(), budget.end());
    expect_failure(all, {"full attention fits the budget", "32.5 keys"});
  }
  // Outputs replace neither the text nor each other.
  const std::string text = folder_.file("text.txt");
  std::ofstream(text) << "A text.";
  expect_failure({"tune", "--model", kModel, "--text", text, "--keys", "25%", "--out", text},
                 {text, "would replace a file that is read"});
  expect_failure({"score", "--model", kModel, "--text", text, "--log", text},
                 {"would replace a file that is read"});
  expect_failure({"demo", kModel, "--text", text, "--out", text}, {"would replace a file that is read"});
  expect_failure(arguments({"--keys", "25%", "--policy-out", page_}), {page_, "two outputs"});
  EXPECT_EQ(read_file(text), "A text.");
  // Layers that only a file names are reported with the file.
  std::ofstream(policy_) << R"({"policy": "sink", "layer-policy": "30=full"})";
  expect_failure({"score", "--model", kModel, "--text", kText, "--policy-file", policy_},
                 {policy_, "a layer that the model does not have"});
  EXPECT_FALSE(file_exists(page_));
}

}  // namespace
}  // namespace sepllm::test
