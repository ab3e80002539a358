#include "apps/layer_lines.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "model/random_model.h"
#include "tests/support/layered_model.h"

namespace sepllm {
namespace {

using Lines = std::vector<std::string>;

ModelConfig config_of(int64_t n_layers) {
  return parse_model_spec(random_model_config({.variant = "llama", .n_layers = n_layers}), "config.json")
      .config;
}

TEST(LayerLines, EqualUsualLayersNeedNone) {
  EXPECT_EQ(layer_lines(config_of(3)), Lines{});
  EXPECT_EQ(layer_lines(config_of(1)), Lines{});
}

TEST(LayerLines, WhatAllLayersHaveIsSaidOnce) {
  ModelConfig c = config_of(3);
  for (LayerSpec& layer : c.layers) {
    layer.window = 4096;
    layer.qk_norm = QkNorm::kHead;
  }
  EXPECT_EQ(layer_lines(c), (Lines{"all: own window of 4096 tokens, norm of queries and keys: each head"}));
}

TEST(LayerLines, EqualLayersShareALine) {
  ModelConfig c = config_of(18);
  c.ropes.push_back(c.ropes[0]);
  c.ropes[1].theta = 1e6;
  for (size_t l = 0; l < c.layers.size(); ++l) {
    c.layers[l].norm_after = true;
    c.layers[l].window = l % 6 == 5 ? 0 : 512;
    c.layers[l].rope = l % 6 == 5 ? 1 : 0;
  }
  EXPECT_EQ(layer_lines(c),
            (Lines{"all: norm after", "0-4, 6-10, 12-16: own window of 512 tokens, rope with theta 10000",
                   "5, 11, 17: no window of its own, rope with theta 1000000"}));
}

TEST(LayerLines, ManyRunsAtEqualDistancesAreShortened) {
  ModelConfig c = config_of(26);
  for (size_t l = 0; l < c.layers.size(); l += 2) c.layers[l].window = 8;
  EXPECT_EQ(layer_lines(c),
            (Lines{"0, 2, ..., 24: own window of 8 tokens", "1, 3, ..., 25: no window of its own"}));
  c.layers[24].window = 0;
  c.layers[25].window = 8;
  EXPECT_EQ(layer_lines(c), (Lines{"0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 25: own window of 8 tokens",
                                   "1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23-24: no window of its own"}));
}

TEST(LayerLines, EverythingThatDiffersIsSaid) {
  const Lines lines = layer_lines(test::layered_spec().config);
  ASSERT_EQ(lines.size(), 4U);
  EXPECT_EQ(lines[0].rfind("0: attention scale: 0.5, own window of 5 tokens, rope with theta ", 0), 0U)
      << lines[0];
  EXPECT_EQ(
      lines[2].rfind("2: attention scale: 0.25, no window of its own, no rope, no norm before, norm after, "
                     "norm of queries and keys: all heads, biases: qkv",
                     0),
      0U)
      << lines[2];
}

TEST(LayerLines, NeverFillTheScreen) {
  ModelConfig c = config_of(40);
  for (size_t l = 0; l < c.layers.size(); ++l) c.layers[l].window = static_cast<int64_t>(l);
  const Lines lines = layer_lines(c);
  ASSERT_EQ(lines.size(), static_cast<size_t>(kMostLayerLines));
  EXPECT_EQ(lines.back(), "and 29 more kinds of layers (--json lists all)");
}

}  // namespace
}  // namespace sepllm
