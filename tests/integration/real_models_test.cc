// The two files that tools/fetch_model.sh brings, with the real program: what other programs make of them
// (tests/golden/make_real_models_golden.py). Where a file is absent, its tests are skipped.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "base/file.h"
#include "tests/support/cli.h"
#include "tests/support/golden.h"

namespace sepllm::test {
namespace {

struct RealModelName {
  const char* name;  // as the script calls it
  const char* file;
};

constexpr RealModelName kSmolLM2 = {"smollm2-135m", "SmolLM2-135M-Instruct.Q4_1.gguf"};
constexpr RealModelName kGemma3 = {"gemma3-270m", "gemma-3-270m-q4_k_m.gguf"};

// A file in $SEPLLM_TEST_MODELS, else where the script puts it; nullopt if it is not there.
std::optional<std::string> fetched_model(const std::string& file) {
  const auto from = [](const char* variable) {
    const char* value = std::getenv(variable);
    return std::string(value != nullptr ? value : "");
  };
  std::string folder = from("SEPLLM_TEST_MODELS");
  if (folder.empty()) {
    const std::string cache = from("XDG_CACHE_HOME");
    folder = (cache.empty() ? from("HOME") + "/.cache" : cache) + "/sepllm/models";
  }
  if (!file_exists(folder + "/" + file)) return std::nullopt;
  return folder + "/" + file;
}

class RealModel : public testing::TestWithParam<RealModelName> {
 protected:
  using Strings = std::vector<std::string>;

  // Skips the test where the model is absent.
  void find(const RealModelName& model) {
    const auto found = fetched_model(model.file);
    if (!found) {
      GTEST_SKIP() << model.file << " is absent: tools/fetch_model.sh " << model.name
                   << " brings it; SEPLLM_TEST_MODELS names another folder";
    }
    path_ = *found;
    golden_ = read_json(golden_folder() + "/real_models.json");
    for (const Json& entry : golden_["models"]) {
      if (entry["file"] == model.file) expected_ = entry;
    }
    ASSERT_FALSE(expected_.is_null()) << model.file;
  }
  void SetUp() override { find(GetParam()); }

  Strings command(const std::string& name, const Strings& more = {}) const {
    return Strings{name, "--model", path_} + more;
  }

  // The loss of each scored token but the first.
  std::vector<double> losses(const Json& settings, const std::string& weights) const {
    const std::vector<int32_t> all = expected_["ids"];
    const std::vector<int32_t> ids(all.begin(), all.begin() + expected_["tokens"].get<int>());
    const std::vector<int32_t> separators = expected_["separators"];
    Strings options = {"--ids",
                       folder_.write("ids", fmt::format("{}", fmt::join(ids, " "))),
                       "--exact",
                       "--weights",
                       weights,
                       "--separators",
                       fmt::format("ids:{}", fmt::join(separators, ",")),
                       "--nll-out",
                       folder_.file("nll")};
    for (const auto& [key, value] : settings.items()) {
      options.push_back("--" + key);
      options.push_back(value.is_string() ? value.get<std::string>() : json_text(value));
    }
    run_json(command("score", options));
    std::istringstream lines(read_file(folder_.file("nll")));
    std::vector<double> out;
    for (double x = 0; lines >> x;) out.push_back(x);
    return out;
  }

  void expect_losses(const std::string& weights, const std::vector<std::string>& policies) const {
    for (const std::string& policy : policies) {
      const Json& settings = expected_["policies"][policy];
      const std::vector<double> theirs = expected_["nll"][policy];
      const std::vector<double> ours = losses(settings, weights);
      ASSERT_EQ(ours.size(), theirs.size()) << policy;
      for (size_t k = 0; k < ours.size(); ++k) {
        EXPECT_NEAR(ours[k], theirs[k], 1e-3) << policy << ", weights " << weights << ", token " << k + 1;
      }
    }
  }

  const TemporaryFolder folder_;
  std::string path_;
  Json golden_, expected_;
};

TEST_P(RealModel, IdsAreThoseOfLlamaCpp) {
  const std::string text = golden_["text"];
  const std::vector<int32_t> all = expected_["ids"];
  const std::vector<int32_t> without_bos(all.begin() + expected_["n_bos"].get<int>(), all.end());
  EXPECT_EQ(run_json({"tokenize", "--tokenizer", path_, "--file", folder_.write("text", text)})["ids"],
            without_bos);
}

// From the blocks as they are stored.
TEST_P(RealModel, LossesAreThoseOfTransformers) { expect_losses("native", {"sep"}); }

TEST_P(RealModel, OtherLossesAreThoseOfTransformers) {
  if (std::getenv("SEPLLM_LONG_TESTS") == nullptr) GTEST_SKIP() << "takes seconds: set SEPLLM_LONG_TESTS=1";
  expect_losses("native", {"full"});
  expect_losses("f32", {"full", "sep"});
}

INSTANTIATE_TEST_SUITE_P(Files, RealModel, testing::Values(kSmolLM2, kGemma3),
                         [](const auto& model) { return model.index == 0 ? "smollm2" : "gemma3"; });

class RealChat : public RealModel {};
INSTANTIATE_TEST_SUITE_P(Files, RealChat, testing::Values(kSmolLM2), [](const auto&) { return "smollm2"; });

TEST_P(RealChat, ThePromptIsThatOfApplyChatTemplate) {
  const std::string talk = folder_.write("talk.json", json_text(expected_["messages"]));
  EXPECT_EQ(run_json(command("tokenize", {"--messages", talk}))["text"], expected_["prompt"]);
}

// The most likely answer, which transformers gives too. Without --exact, activations are rounded to 8 bits,
// as in llama.cpp, and both programs answer something else.
TEST_P(RealChat, AnswersAQuestion) {
  const ProgramResult result =
      run_sepllm(command("chat", {"--temp", "0", "-n", "16", "--exact"}), "What is the capital of France?\n");
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_NE(result.out.find("The capital of France is Paris."), std::string::npos) << result.out;
}

class RealBaseModel : public RealModel {};
INSTANTIATE_TEST_SUITE_P(Files, RealBaseModel, testing::Values(kGemma3),
                         [](const auto&) { return "gemma3"; });

TEST_P(RealBaseModel, ChatSaysThatItHasNoTemplateAndNamesTheWayOut) {
  const ProgramResult result = run_sepllm(command("chat", {"-n", "2"}), "Hello\n");
  EXPECT_EQ(result.exit_code, 0) << result.err;
  for (const char* part : {"no chat template", "--chat-format"}) {
    EXPECT_NE(result.err.find(part), std::string::npos) << result.err;
  }
}

}  // namespace
}  // namespace sepllm::test
