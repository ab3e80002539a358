// `sepllm score` gives the same perplexity with the fast attention kernels and with the reference, for every
// family and policy. The models are those of tests/golden.
#include <cmath>

#include "tests/support/cli.h"
#include "tests/support/golden.h"

namespace sepllm::test {
namespace {

struct PolicyFlags {
  std::string name;
  std::vector<std::string> flags;
};

const std::vector<PolicyFlags>& policies() {
  static const std::vector<PolicyFlags> all = {
      {"full", {}},
      {"sep", {"--init", "3", "--window", "11"}},
      {"sink", {"--init", "4", "--window", "21"}},
      {"fixed", {"--init", "2", "--window", "7", "--interval", "5"}},
      {"sep-stream", {"--init", "3", "--window", "9", "--seps", "12", "--capacity", "50"}},
      {"sink-stream", {"--init", "4", "--capacity", "40"}}};
  return all;
}

class AttentionImpls : public testing::TestWithParam<std::string> {
 protected:
  // The golden tokens, repeated up to three times if the model's positions allow it.
  static std::string ids(const PolicyFlags& policy) {
    const GoldenFile golden(golden_model(GetParam()) + "/golden.safetensors");
    const bool limited = GetParam().rfind("gpt2", 0) == 0 && policy.name.find("stream") == std::string::npos;
    std::string out;
    for (int i = 0; i < (limited ? 1 : 3); ++i) {
      for (const int32_t id : golden.ints("ids")) out += std::to_string(id) + "\n";
    }
    return out;
  }

  static std::string separators() {
    const Json settings = read_json(golden_model(GetParam()) + "/golden.json");
    std::string out = "ids:";
    for (const Json& id : settings["separators"])
      out += (out.back() == ':' ? "" : ",") + std::to_string(id.get<int32_t>());
    return out;
  }

  static double nll(const PolicyFlags& policy, const std::string& ids_file, const std::string& impl) {
    std::vector<std::string> arguments = {
        "score",    "--model",   golden_model(GetParam()), "--ids", ids_file,           "--threads", "2",
        "--policy", policy.name, "--prefill-chunk",        "100",   "--attention-impl", impl};
    if (policy.name.rfind("sep", 0) == 0)
      arguments = arguments + std::vector<std::string>{"--separators", separators()};
    const Json result = run_json(arguments + policy.flags);
    return result.is_object() ? result["nll_mean"].get<double>() : NAN;
  }
};

TEST_P(AttentionImpls, GiveTheSamePerplexity) {
  const TemporaryFolder folder;
  int different = 0;
  for (const PolicyFlags& policy : policies()) {
    const std::string ids_file = folder.write(policy.name, ids(policy));
    const double simd = nll(policy, ids_file, "simd");
    const double reference = nll(policy, ids_file, "reference");
    // Perplexity is exp of the mean: a relative 1e-5 of one is an absolute 1e-5 of the other.
    EXPECT_NEAR(simd, reference, 1e-5) << policy.name;
    different += simd != reference ? 1 : 0;
  }
  EXPECT_GT(different, 0) << "not a bit of rounding differs: did both kernels run?";
}

INSTANTIATE_TEST_SUITE_P(Models, AttentionImpls, testing::ValuesIn(golden_models()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace sepllm::test
