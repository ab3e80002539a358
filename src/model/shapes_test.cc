#include "model/shapes.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "kernels/formats/panels.h"
#include "kernels/formats/rows.h"
#include "model/decoder.h"
#include "model/tensor_list.h"
#include "tests/support/expect_error.h"
#include "tests/support/weight_types.h"

namespace sepllm {
namespace {

struct Counter {
  int64_t n = 0;
  void table(Weight&, const std::string&, int64_t rows, int64_t columns) { n += rows * columns; }
  void linear(Linear&, const std::string&, const std::string& bias, int64_t n_out, int64_t n_in) {
    n += n_out * n_in + (bias.empty() ? 0 : n_out);
  }
  void norm(Norm&, const std::string&, const std::string& bias, int64_t size) {
    n += (bias.empty() ? 1 : 2) * size;
  }
};

int64_t parameters(const std::string& shape) {
  const ModelSpec spec = shape_spec(shape);
  Counter counter;
  ModelWeights unused;
  visit_model(spec, usual_names(spec), &unused, counter);
  return counter.n;
}

// The numbers that the model cards on the Hugging Face hub state.
TEST(Shapes, HaveThePublishedNumbersOfParameters) {
  EXPECT_EQ(parameters("gpt2-124m"), 124'439'808);
  EXPECT_EQ(parameters("pythia-14m"), 14'067'712);
  EXPECT_EQ(parameters("pythia-160m"), 162'322'944);
  EXPECT_EQ(parameters("sepllm-5m"), 5'327'616);
  EXPECT_EQ(parameters("llama-160m"), 162'417'408);
  EXPECT_EQ(parameters("tinyllama-1.1b"), 1'100'048'384);
  EXPECT_EQ(parameters("llama-3-8b"), 8'030'261'248);
  EXPECT_EQ(shape_names().size(), 7U);
}

TEST(Shapes, AnUnknownNameIsAnError) {
  test::expect_error([] { shape_spec("llama-9"); }, ErrorCode::kInvalidArgument, {"llama-9", "pythia-14m"});
}

class RandomWeights : public testing::TestWithParam<DType> {
 protected:
  static ModelWeights make(int n_threads, uint64_t seed = 7) {
    ThreadPool pool(n_threads);
    return make_random_weights(shape_spec("pythia-14m"), GetParam(), seed, pool);
  }
  static std::vector<float> row(const Weight& w, int64_t r) {
    std::vector<float> out(static_cast<size_t>(w.n_in));
    if (is_block_type(w.type)) {
      panel_row_to_f32(w, r, 0, w.n_in, out.data());
    } else {
      row_to_f32(w.type, static_cast<const char*>(w.data) + r * row_bytes(w.type, w.n_in), w.n_in,
                 out.data());
    }
    return out;
  }
};

TEST_P(RandomWeights, HaveTheTypeAndTheScale) {
  const ModelWeights w = make(1);
  EXPECT_EQ(parameter_count(w), 14'067'712);
  EXPECT_EQ(w.token_embedding.type, table_type(GetParam()));
  EXPECT_EQ(w.head.weight.type, table_type(GetParam()));
  for (const Weight& m : {w.layers[5].mlp_down.weight, w.layers[0].qkv[0].weight, w.head.weight}) {
    double sum = 0, squares = 0;
    constexpr int64_t kRows = 100;
    for (int64_t r = 0; r < kRows; ++r) {
      for (const float x : row(m, r)) {
        sum += x;
        squares += double{x} * x;
      }
    }
    // Of n numbers, the mean strays by 1 / sqrt(n) deviations and the variance by about as much of itself.
    const auto n = static_cast<double>(kRows * m.n_in);
    EXPECT_LT(std::abs(sum / n) * std::sqrt(static_cast<double>(m.n_in)), 5 / std::sqrt(n));
    EXPECT_NEAR(squares / n * static_cast<double>(m.n_in), 1.0, 5 / std::sqrt(n) + 1e-3);
  }
  EXPECT_EQ(w.layers[3].mlp_in[0].weight.type, GetParam());
}

TEST_P(RandomWeights, AreTheSameForAnyNumberOfThreads) {
  const ModelWeights one = make(1), three = make(3), other = make(1, 8);
  ASSERT_EQ(one.matrices.size(), three.matrices.size());
  for (size_t i = 0; i < one.matrices.size(); ++i) {
    const auto bytes = static_cast<size_t>(one.matrices[i].bytes());
    EXPECT_EQ(std::memcmp(one.matrices[i].data(), three.matrices[i].data(), bytes), 0) << i;
    EXPECT_NE(std::memcmp(one.matrices[i].data(), other.matrices[i].data(), bytes), 0) << i;
  }
  EXPECT_NE(std::memcmp(one.matrices[0].data(), one.matrices.back().data(), 4096), 0);
}

TEST_P(RandomWeights, KeepActivationsFinite) {
  const ModelSpec spec = shape_spec("pythia-14m");
  const Decoder decoder(spec.config, make(2));
  ThreadPool pool(2);
  Arena arena;
  const Context ctx{.pool = pool, .arena = arena};
  std::vector<int32_t> tokens(64);
  std::iota(tokens.begin(), tokens.end(), 1000);
  const Pattern full;
  const Sequence sequence{.tokens = tokens, .cache = nullptr, .patterns = {&full, 1}};
  const Matrix hidden = decoder.forward(ctx, {&sequence, 1});
  std::vector<double> nll(63);
  decoder.nll(ctx, hidden.rows(0, 63), std::span(tokens).subspan(1), nll.data());
  const double mean = std::accumulate(nll.begin(), nll.end(), 0.0) / 63;
  // Logits of variance about 1: somewhat above the entropy of a uniform choice.
  EXPECT_GT(mean, std::log(50304.0) - 1);
  EXPECT_LT(mean, std::log(50304.0) + 2);
}

INSTANTIATE_TEST_SUITE_P(Types, RandomWeights, testing::ValuesIn(test::weight_types()),
                         [](const auto& info) { return std::string(dtype_name(info.param)); });

// Types to which nothing is rounded: their blocks are drawn.
TEST(RandomKeptWeights, HaveTheTypeAndTheScale) {
  const ModelSpec spec = parse_model_spec(
      parse_json(R"({"model_type": "llama", "vocab_size": 1000, "hidden_size": 256, "num_hidden_layers": 2,
                     "num_attention_heads": 4, "intermediate_size": 512, "max_position_embeddings": 512,
                     "rms_norm_eps": 1e-05, "tie_word_embeddings": false})",
                 "small"),
      "small");
  for (const DType type : kPanelTypes) {
    if (is_weight_type(type)) continue;
    ThreadPool one(1), three(3);
    const ModelWeights w = make_random_weights(spec, type, 7, one);
    const ModelWeights again = make_random_weights(spec, type, 7, three);
    EXPECT_EQ(weight_memory(w).owned, random_weight_memory(spec, type).owned);
    for (size_t i = 0; i < w.matrices.size(); ++i) {
      const auto bytes = static_cast<size_t>(w.matrices[i].bytes());
      EXPECT_EQ(std::memcmp(w.matrices[i].data(), again.matrices[i].data(), bytes), 0) << dtype_name(type);
    }
    EXPECT_EQ(w.token_embedding.type, type);
    for (const Weight& m : {w.layers[1].mlp_down.weight, w.head.weight}) {
      double sum = 0, squares = 0;
      std::vector<float> row(static_cast<size_t>(m.n_in));
      for (int64_t r = 0; r < m.n_out; ++r) {
        panel_row_to_f32(m, r, 0, m.n_in, row.data());
        for (const float x : row) {
          sum += x;
          squares += double{x} * x;
        }
      }
      const auto n = static_cast<double>(m.n_out * m.n_in);
      EXPECT_LT(std::abs(sum / n) * std::sqrt(static_cast<double>(m.n_in)), 0.02) << dtype_name(type);
      EXPECT_NEAR(squares / n * static_cast<double>(m.n_in), 1.0, 0.02) << dtype_name(type);
    }
  }
}

TEST(RandomKeptWeights, AreRefusedWhereRowsAreNotWholeBlocks) {
  ThreadPool pool(1);
  test::expect_error([&] { make_random_weights(shape_spec("pythia-14m"), DType::kQ4_K, 1, pool); },
                     ErrorCode::kInvalidArgument, {"q4_k", "256", "128"});
}

}  // namespace
}  // namespace sepllm
