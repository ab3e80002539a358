// Compares which tokens may be drawn, and with which probabilities, with transformers' reading of
// generation_config.json and its logits processors (make_sampling_golden.py).
#include <gtest/gtest.h>

#include <map>

#include "engine/recent_tokens.h"
#include "engine/sampling_defaults.h"
#include "tests/support/golden.h"
#include "tests/support/support.h"

namespace sepllm::test {
namespace {

TEST(SamplingGolden, WhatMayBeDrawnIsWhatTransformersLeaves) {
  const Json golden = read_json(golden_folder() + "/sampling.json");
  const TemporaryFolder folder;
  for (const Json& c : golden["cases"]) {
    const Json& input = golden["inputs"][c["input"].get<size_t>()];
    SCOPED_TRACE(c["file"].dump() + " with input " + c["input"].dump());
    folder.write("generation_config.json", c["file"].dump());
    const auto logits = input["logits"].get<std::vector<float>>();
    Sampler sampler(sampling_defaults(folder.path()).settings, static_cast<int64_t>(logits.size()));
    RecentTokens recent(sampler.recent_tokens());
    recent.add(input["context"].get<std::vector<int32_t>>());
    std::map<int32_t, double> got;
    for (const auto& [id, probability] : sampler.chances(logits, recent.tokens())) got[id] = probability;
    ASSERT_EQ(got.size(), c["chances"].size());
    for (const Json& expected : c["chances"]) {
      const auto id = expected[0].get<int32_t>();
      ASSERT_EQ(got.count(id), 1U) << id;
      // transformers computes the scores in float32.
      EXPECT_NEAR(got[id], expected[1].get<double>(), 2e-6) << id;
    }
    // What is drawn is one of them.
    for (int k = 0; k < 20; ++k) ASSERT_EQ(got.count(sampler.sample(logits, recent.tokens())), 1U);
  }
  EXPECT_GT(golden["cases"].size(), 60U);
}

}  // namespace
}  // namespace sepllm::test
