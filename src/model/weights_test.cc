#include "model/weights.h"

#include <gtest/gtest.h>

#include "tests/support/support.h"

namespace sepllm {
namespace {

TEST(Weights, LoadsARealLlama) {
  SEPLLM_DATA_OR_SKIP(data);
  const std::string folder = data + "/derived/stories260k-hf";
  const ModelSpec spec = read_model_spec(folder);
  const ModelWeights w = load_weights(folder, spec);
  EXPECT_EQ(w.layers.size(), 5U);
  EXPECT_EQ(w.head.weight.data, w.token_embedding.data);
  EXPECT_EQ(parameter_count(w), 260'032);
  EXPECT_EQ(w.layers[0].qkv.size(), 3U);
  EXPECT_EQ(w.layers[0].qkv[2].out_offset, 64 + 32);
  EXPECT_NO_THROW(check_finite(w));
}

TEST(Weights, LoadsARealGpt2) {
  SEPLLM_DATA_OR_SKIP(data);
  const std::string folder = data + "/derived/tiny-random-gpt2-hf";
  const ModelSpec spec = read_model_spec(folder);
  const ModelWeights w = load_weights(folder, spec);
  EXPECT_EQ(w.layers.size(), 5U);
  EXPECT_TRUE(w.layers[0].mlp_up.weight.transposed);
  EXPECT_EQ(w.layers[0].mlp_up.weight.n_out, 128);
  EXPECT_EQ(w.layers[0].mlp_up.weight.row_stride, 128);
  EXPECT_EQ(w.position_embedding.n_out, 512);
}

}  // namespace
}  // namespace sepllm
