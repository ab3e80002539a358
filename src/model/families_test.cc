// What the families that came after Llama read from config.json, and what they refuse.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "base/log.h"
#include "model/config.h"
#include "model/random_model.h"
#include "tests/support/captured_log.h"
#include "tests/support/expect_error.h"

namespace sepllm {
namespace {

using test::expect_error;

ModelConfig family_config(const std::string& variant, const Json& changes = Json::object()) {
  return parse_model_spec(random_model_config({.variant = variant, .n_layers = 4, .extra_config = changes}),
                          "config.json")
      .config;
}

void expect_family_refuses(const std::string& variant, const Json& changes,
                           const std::vector<std::string>& parts, ErrorCode code = ErrorCode::kBadFile) {
  expect_error([&] { family_config(variant, changes); }, code, parts);
}

std::vector<int64_t> windows(const ModelConfig& c) {
  std::vector<int64_t> out;
  for (const LayerSpec& layer : c.layers) out.push_back(layer.window);
  return out;
}

std::vector<int64_t> ropes(const ModelConfig& c) {
  std::vector<int64_t> out;
  for (const LayerSpec& layer : c.layers) out.push_back(layer.rope);
  return out;
}

using Ints = std::vector<int64_t>;
const Json kSliding = "sliding_attention";
const Json kFull = "full_attention";

TEST(Families, MistralsWindowIsOfAllLayersOrNone) {
  EXPECT_EQ(windows(family_config("mistral")), (Ints{24, 24, 24, 24}));
  EXPECT_TRUE(family_config("mistral").all_layers_local());
  EXPECT_EQ(windows(family_config("mistral", {{"sliding_window", nullptr}})), (Ints{0, 0, 0, 0}));
  EXPECT_EQ(windows(family_config("mistral", {{"layer_types", {kSliding, kSliding, kSliding, kSliding}}})),
            (Ints{24, 24, 24, 24}));
  expect_family_refuses("mistral", {{"layer_types", {kSliding, kFull, kSliding, kFull}}},
                        {"layer_types", "sliding_attention only", "full_attention"});
  expect_family_refuses("mistral",
                        {{"sliding_window", nullptr}, {"layer_types", {kFull, kFull, kFull, kSliding}}},
                        {"layer_types", "full_attention only"});
  expect_family_refuses("mistral", {{"sliding_window", 0}}, {"sliding_window", "0"});
}

TEST(Families, QwensWindows) {
  EXPECT_EQ(windows(family_config("qwen2")), (Ints{0, 0, 0, 0}));
  EXPECT_EQ(windows(family_config("qwen2-windows")), (Ints{0, 0, 20, 20}));
  EXPECT_EQ(windows(family_config("qwen2-windows", {{"layer_types", {kSliding, kFull, kFull, kSliding}}})),
            (Ints{20, 0, 0, 20}));
  // A window that is not used is none.
  EXPECT_EQ(windows(family_config("qwen3", {{"sliding_window", 20}, {"max_window_layers", 0}})),
            (Ints{0, 0, 0, 0}));
  expect_family_refuses("qwen3", {{"layer_types", {kSliding, kFull, kFull, kSliding}}},
                        {"layer_types", "no sliding window in force"});
  expect_family_refuses("qwen2", {{"layer_types", {kFull}}}, {"layer_types", "a list of 4", "1 elements"});
  expect_family_refuses("qwen2", {{"layer_types", {kFull, kFull, kFull, "chunked_attention"}}},
                        {"layer_types", "chunked_attention"}, ErrorCode::kUnsupported);
}

TEST(Families, QwensBiasesAndNorms) {
  const LayerSpec two = family_config("qwen2").layer(0);
  EXPECT_TRUE(two.qkv_bias && !two.out_bias && !two.mlp_bias);
  EXPECT_EQ(two.qk_norm, QkNorm::kNone);
  const ModelConfig three = family_config("qwen3");
  EXPECT_EQ(three.layer(0).qk_norm, QkNorm::kHead);
  EXPECT_FALSE(three.layer(0).qkv_bias);
  EXPECT_EQ(three.head_dim, 32);
  EXPECT_DOUBLE_EQ(three.layer(0).attention_scale, 1 / std::sqrt(32.0));
  expect_family_refuses("qwen3", {{"head_dim", nullptr}}, {"head_dim", "null"});
}

TEST(Families, GemmasLayers) {
  const ModelConfig c = family_config("gemma3");
  EXPECT_EQ(windows(c), (Ints{24, 0, 24, 0}));
  EXPECT_EQ(ropes(c), (Ints{1, 0, 1, 0}));
  EXPECT_EQ(c.ropes.at(0).theta, 1e6);
  EXPECT_EQ(c.ropes.at(1).theta, 1e4);
  EXPECT_EQ(c.norm_offset, 1);
  EXPECT_EQ(c.embed_scale, 8);
  EXPECT_EQ(c.activation, Activation::kGeluTanh);
  EXPECT_TRUE(c.layer(0).norm_before && c.layer(0).norm_after);
  EXPECT_EQ(family_config("gemma3", {{"query_pre_attn_scalar", 4}}).layer(1).attention_scale, 0.5);
  // Both ropes in the form of transformers 5.
  const ModelConfig five = family_config(
      "gemma3", {{"rope_parameters",
                  {{"full_attention", {{"rope_type", "linear"}, {"factor", 8.0}, {"rope_theta", 100.0}}},
                   {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 50.0}}}}}});
  EXPECT_EQ(five.ropes.at(0).theta, 100);
  EXPECT_EQ(five.ropes.at(0).inv_freq.at(0), 0.125);
  EXPECT_EQ(five.ropes.at(1).theta, 50);
  // And in that of transformers 4, whose rope_scaling is of the global layers.
  const ModelConfig four =
      family_config("gemma3", {{"rope_scaling", {{"rope_type", "linear"}, {"factor", 8.0}}}});
  EXPECT_EQ(four.ropes.at(0).inv_freq.at(0), 0.125);
  EXPECT_EQ(four.ropes.at(1).inv_freq.at(0), 1);
}

TEST(Families, WhatGemmaRefuses) {
  expect_family_refuses("gemma3", {{"final_logit_softcapping", 30.0}},
                        {"final_logit_softcapping", "null", "30"}, ErrorCode::kUnsupported);
  expect_family_refuses("gemma3", {{"attn_logit_softcapping", 50.0}}, {"attn_logit_softcapping"},
                        ErrorCode::kUnsupported);
  expect_family_refuses("gemma3", {{"use_bidirectional_attention", true}}, {"use_bidirectional_attention"},
                        ErrorCode::kUnsupported);
  expect_family_refuses("gemma3", {{"sliding_window", nullptr}}, {"sliding_window", "no sliding window"});
  expect_family_refuses("gemma3", {{"rope_parameters", {{"rope_type", "default"}}}},
                        {"rope_parameters", "full_attention and sliding_attention"});
  expect_family_refuses("gemma3", {{"rope_scaling", {{"type", "linear"}, {"factor", 8}}}},
                        {"rope_scaling.type", "rope_type"});
  expect_family_refuses("gemma3", {{"rope_parameters", {{"sliding_attention", {{"rope_type", "linear"}}}}}},
                        {"rope_parameters.sliding_attention.factor"}, ErrorCode::kNotFound);
}

TEST(Families, PhisRope) {
  const ModelConfig c = family_config("phi3");
  const RopeConfig& rope = c.ropes.at(0);
  ASSERT_TRUE(rope.longrope);
  EXPECT_EQ(rope.trained_length(), 128);
  EXPECT_EQ(c.rope_by_length(), &rope);
  std::vector<double> shorter(rope.inv_freq.size()), longer = shorter;
  rope.frequencies(128, shorter.data());
  rope.frequencies(129, longer.data());
  EXPECT_EQ(shorter, rope.inv_freq);
  EXPECT_DOUBLE_EQ(shorter[0], 1 / 1.25);
  EXPECT_DOUBLE_EQ(longer[0], 1 / 4.5);
  EXPECT_DOUBLE_EQ(rope.attention_factor, std::sqrt(1 + std::log(4.0) / std::log(128.0)));
  EXPECT_EQ(
      family_config("phi3", {{"rope_scaling", nullptr}, {"partial_rotary_factor", 0.5}}).ropes.at(0).dim, 8);
  expect_family_refuses("phi3", {{"rope_scaling", {{"rope_type", "linear"}, {"factor", 2}}}},
                        {"rope_scaling.rope_type", "default or longrope", "linear"}, ErrorCode::kUnsupported);
}

TEST(Families, SmolsLayersWithoutRope) {
  constexpr int64_t kNone = LayerSpec::kNoRope;
  EXPECT_EQ(ropes(family_config("smollm3")), (Ints{0, kNone, 0, kNone}));
  EXPECT_EQ(ropes(family_config("smollm3", {{"no_rope_layers", {0, 1, 1, 1, 1}}})), (Ints{kNone, 0, 0, 0}));
  EXPECT_EQ(windows(family_config("smollm3", {{"use_sliding_window", true}, {"sliding_window", 9}})),
            (Ints{0, 9, 0, 9}));
  expect_family_refuses("smollm3", {{"no_rope_layers", {0, 1}}}, {"no_rope_layers", "each of the 4 layers"});
  expect_family_refuses("smollm3", {{"no_rope_layers", {0, 1, 2, 1}}}, {"no_rope_layers"});
  expect_family_refuses("smollm3", {{"sliding_window", 9}, {"layer_types", {kSliding, kFull, kFull, kFull}}},
                        {"layer_types", "no sliding window in force"});
}

TEST(Families, OlmosNorms) {
  const LayerSpec layer = family_config("olmo2").layer(0);
  EXPECT_TRUE(!layer.norm_before && layer.norm_after);
  EXPECT_EQ(layer.qk_norm, QkNorm::kRow);
}

}  // namespace
}  // namespace sepllm
