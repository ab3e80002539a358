// Compares how the rotary settings of config.json are read with transformers' reading, over places, forms,
// types and families (make_rope_golden.py).
#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "base/log.h"
#include "model/config.h"
#include "tests/support/golden.h"

namespace sepllm::test {
namespace {

TEST(RopeGolden, EverySettingIsReadWhereTransformersReadsIt) {
  const Json golden = read_json(golden_folder() + "/rope.json");
  int n_compared = 0;
  for (const Json& c : golden["cases"]) {
    const std::string shown = c.dump();
    Json config = golden["base"][c["family"].get<std::string>()];
    config.update(c["config"]);
    if (c.contains("fails")) {  // either an Error, or a way to read a config that nobody else has
      try {
        parse_model_spec(config, "config.json");
      } catch (const Error&) {
      }
      continue;
    }
    const RopeConfig rope = parse_model_spec(config, "config.json").config.ropes.at(c.value("rope", 0U));
    const auto expected = c["inv_freq"].get<std::vector<double>>();
    ASSERT_EQ(rope.inv_freq.size(), expected.size()) << shown;
    std::vector<double> got(expected.size());
    rope.frequencies(c["length"].get<int64_t>(), got.data());
    for (size_t i = 0; i < got.size(); ++i) {
      // transformers computes in float32.
      ASSERT_NEAR(got[i], expected[i], 2e-6 * expected[i] + 1e-12) << i << " of " << shown;
    }
    EXPECT_NEAR(rope.attention_factor, c["attention_factor"].get<double>(), 1e-9) << shown;
    EXPECT_EQ(rope.dim, static_cast<int64_t>(2 * expected.size()));
    ++n_compared;
  }
  EXPECT_GT(n_compared, 300);
}

// A file that contradicts itself is read as transformers reads it, and one warning says what is ignored.
TEST(RopeGolden, WhatIsNotReadIsSaidOnce) {
  const Json golden = read_json(golden_folder() + "/rope.json");
  const auto warnings = [&](const char* family, const Json& changes) {
    Json config = golden["base"][family];
    config.update(changes);
    std::vector<std::string> lines;
    LogSink old = set_log_sink([&](LogLevel, const std::string& text) { lines.push_back(text); });
    parse_model_spec(config, "config.json");
    set_log_sink(std::move(old));
    return lines;
  };
  using Lines = std::vector<std::string>;
  const std::string start = "config.json: these rotary settings are ignored, as in transformers 5: ";
  EXPECT_EQ(warnings("gpt_neox", {{"partial_rotary_factor", 0.5}, {"rope_theta", 500}}),
            (Lines{start + "rope_theta 500, partial_rotary_factor 0.5; the base 10000 and 4 rotated dims of "
                           "each head are used"}));
  EXPECT_EQ(warnings("llama", {{"rope_theta", 500}, {"rope_scaling", {{"rope_theta", 100}}}}),
            (Lines{start + "rope_theta 500; the base 100 and 16 rotated dims of each head are used"}));
  EXPECT_EQ(
      warnings("falcon", {{"partial_rotary_factor", 0.5}}),
      (Lines{start + "a share of 0.5 of the head (this family rotates all of it); the base 10000 and 16 "
                     "rotated dims of each head are used"}));
  const Json both = {{"rope_scaling", {{"type", "linear"}, {"factor", 2}}},
                     {"rope_parameters", {{"rope_type", "default"}}}};
  EXPECT_EQ(warnings("llama", both),
            (Lines{start + "rope_parameters; the base 10000 and 16 rotated dims of each head are used"}));
  // transformers 4 wrote the same value under both names.
  EXPECT_EQ(warnings("gpt_neox", {{"rotary_pct", 0.25},
                                  {"partial_rotary_factor", 0.25},
                                  {"rotary_emb_base", 10000},
                                  {"rope_theta", 10000}}),
            Lines{});
  EXPECT_EQ(warnings("llama", {{"rope_theta", 500}, {"rope_scaling", {{"type", "linear"}, {"factor", 2}}}}),
            Lines{});
}

}  // namespace
}  // namespace sepllm::test
