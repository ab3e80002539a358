#include "engine/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <map>
#include <tuple>
#include <utility>
#include <vector>

#include "base/error.h"

namespace sepllm {
namespace {

std::map<int32_t, int> draw(const SamplingSettings& settings, const std::vector<float>& logits, int n) {
  Sampler sampler(settings, static_cast<int64_t>(logits.size()));
  std::map<int32_t, int> counts;
  for (int k = 0; k < n; ++k) ++counts[sampler.sample(logits, {})];
  return counts;
}

const std::vector<float> kLogits = {std::log(0.1F), std::log(0.5F), std::log(0.25F), std::log(0.15F)};

TEST(Sampler, GreedyTakesTheBestAndTheSmallestIdOfATie) {
  Sampler sampler({}, 4);
  EXPECT_EQ(sampler.sample(kLogits, {}), 1);
  EXPECT_EQ(sampler.sample(std::vector<float>{2, 3, 3, 1}, {}), 1);
  EXPECT_EQ(sampler.sample(std::vector<float>{NAN, -1, -INFINITY, -2}, {}), 1);
}

TEST(Sampler, FrequenciesFollowTheProbabilities) {
  const auto counts = draw({.temperature = 1.0, .seed = 3}, kLogits, 20000);
  EXPECT_NEAR(counts.at(0) / 20000.0, 0.10, 0.01);
  EXPECT_NEAR(counts.at(1) / 20000.0, 0.50, 0.015);
  EXPECT_NEAR(counts.at(2) / 20000.0, 0.25, 0.015);
}

TEST(Sampler, CutsTheTail) {
  EXPECT_EQ(draw({.temperature = 1.0, .top_k = 2}, kLogits, 500).size(), 2U);
  EXPECT_EQ(draw({.temperature = 1.0, .top_k = 1}, kLogits, 100).size(), 1U);
  EXPECT_EQ(draw({.temperature = 1.0, .top_p = 0.7}, kLogits, 500).size(), 2U);  // 0.5, 0.25
  EXPECT_EQ(draw({.temperature = 1.0, .top_p = 0.0}, kLogits, 100).size(), 1U);
  EXPECT_EQ(draw({.temperature = 1.0, .min_p = 0.25}, kLogits, 2000).size(), 3U);  // at least 0.125
}

TEST(Sampler, TheSameSeedDrawsTheSame) {
  const SamplingSettings s{.temperature = 2.0, .seed = 9};
  Sampler a(s, 4), b(s, 4);
  for (int k = 0; k < 50; ++k) EXPECT_EQ(a.sample(kLogits, {}), b.sample(kLogits, {}));
}

TEST(Sampler, RepeatPenaltyWeakensRecentTokensOnce) {
  Sampler sampler({.repeat_penalty = 2.0, .repeat_last_n = 3}, 3);
  const std::vector<float> logits = {4.0F, 3.0F, -1.0F};
  EXPECT_EQ(sampler.sample(logits, std::vector<int32_t>{0, 0, 0}), 1);        // 4 / 2 < 3, not 4 / 8
  EXPECT_EQ(sampler.sample(logits, std::vector<int32_t>{0, 1, 2, 2, 2}), 0);  // 0 and 1 lie too far back
}

TEST(Sampler, OpenAisPenaltiesCountWhatWasChosen) {
  const std::vector<float> logits = {4.0F, 3.5F, 3.2F};
  // What `recent` says does not count; each choice lowers a token once more.
  Sampler frequency({.frequency_penalty = 1.0}, 3);
  std::vector<int32_t> chosen;
  for (int k = 0; k < 6; ++k) chosen.push_back(frequency.sample(logits, std::vector<int32_t>{0, 0, 0}));
  EXPECT_EQ(chosen, (std::vector<int32_t>{0, 1, 2, 0, 1, 2}));
  Sampler presence({.presence_penalty = 1.0}, 3);
  chosen.clear();
  for (int k = 0; k < 5; ++k) chosen.push_back(presence.sample(logits, {}));
  EXPECT_EQ(chosen, (std::vector<int32_t>{0, 1, 2, 0, 0}));  // lowered once
  presence.restore({});
  EXPECT_EQ(presence.sample(logits, {}), 0);
  Sampler encouraged({.presence_penalty = -2.0}, 3);
  EXPECT_EQ(encouraged.sample(std::vector<float>{0.0F, 1.0F, 0.0F}, {}), 1);
  EXPECT_EQ(encouraged.sample(std::vector<float>{2.0F, 1.0F, 0.0F}, {}), 1);
}

TEST(Sampler, BiasesAreAddedToTheLogits) {
  Sampler sampler({.logit_bias = {{2, 5.0}, {0, -100.0}, {7, 100.0}, {-1, 100.0}}}, 3);
  EXPECT_EQ(sampler.sample(std::vector<float>{4.0F, 3.0F, -1.0F}, {}), 2);
  EXPECT_EQ(sampler.sample(std::vector<float>{90.0F, 3.0F, -3.0F}, {}), 1);
  const auto counts = draw({.temperature = 1.0, .logit_bias = {{1, -100.0}}}, kLogits, 500);
  EXPECT_EQ(counts.count(1), 0U);
}

TEST(Sampler, OptionsThatWereGivenReplaceTheModelsSettings) {
  const SamplingSettings own{
      .temperature = 0.6, .top_k = 20, .top_p = 0.9, .repeat_penalty = 1.1, .repeat_last_n = -1};
  const auto with = [&](const std::vector<std::pair<const char*, const char*>>& flags) {
    SamplingSettings given{.temperature = 0.8, .top_k = 40, .top_p = 0.95, .min_p = 0.05};
    OptionSet options;
    declare_sampling_options(&options, &given);
    for (const auto& [name, value] : flags) options.set(name, value);
    return with_given_sampling(options, given, own);
  };
  const SamplingSettings none = with({});
  EXPECT_EQ(std::tuple(none.temperature, none.top_k, none.top_p, none.min_p, none.seed),
            std::tuple(0.6, 20, 0.9, 0.0, 0));
  EXPECT_EQ(std::pair(none.repeat_penalty, none.repeat_last_n), std::pair(1.1, int64_t{-1}));
  const SamplingSettings some = with({{"temp", "0"}, {"min-p", "0.2"}, {"seed", "4"}});
  EXPECT_EQ(std::tuple(some.temperature, some.top_k, some.top_p, some.min_p, some.seed),
            std::tuple(0.0, 20, 0.9, 0.2, 4));
  const SamplingSettings others = with({{"top-k", "40"}, {"top-p", "1"}, {"repeat-penalty", "1.3"}});
  EXPECT_EQ(std::tuple(others.temperature, others.top_k, others.top_p), std::tuple(0.6, 40, 1.0));
  EXPECT_EQ(std::pair(others.repeat_penalty, others.repeat_last_n), std::pair(1.3, int64_t{64}));
  EXPECT_EQ(with({{"repeat-last-n", "8"}}).repeat_last_n, 8);
  EXPECT_EQ(with({{"repeat-last-n", "8"}}).repeat_penalty, 1.1);
}

TEST(Sampler, HugeTemperatureAndOddLogitsAreDrawnFrom) {
  const auto counts = draw({.temperature = 1e6}, {1.0F, NAN, -INFINITY, 3.0F}, 1000);
  EXPECT_EQ(counts.size(), 2U);
}

TEST(Sampler, OptionsRefuseWhatIsOutOfRange) {
  const std::vector<std::pair<const char*, const char*>> cases = {{"temp", "nan"},         {"temp", "-1"},
                                                                  {"top-p", "2"},          {"top-p", "-1"},
                                                                  {"repeat-penalty", "0"}, {"top-k", "-3"}};
  for (const auto& [name, value] : cases) {
    SamplingSettings settings;
    OptionSet options;
    declare_sampling_options(&options, &settings);
    EXPECT_THROW(options.set(name, value), Error) << name << " " << value;
  }
}

}  // namespace
}  // namespace sepllm
