// Models in GGUF, as llama.cpp's converter lays them out (tests/golden/make_gguf_models_golden.py): the
// weights are those of the Hugging Face folder bit for bit, and the logits those that transformers computes.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/gguf.h"
#include "model/gguf/spec.h"
#include "model/tensor_list.h"
#include "tests/support/golden.h"

namespace sepllm::test {
namespace {

std::string gguf_model_file(const std::string& name) {
  return golden_folder() + "/gguf_models/" + name + ".gguf";
}

// All numbers of the model's weights, in the order of the walk over them.
std::vector<float> all_weights(const ModelWeights& weights) {
  std::vector<float> out;
  const auto add = [&](const Weight& w) {
    for (int64_t r = 0; w.data != nullptr && r < w.n_out; ++r) {
      for (int64_t c = 0; c < w.n_in; ++c) {
        const auto* values = static_cast<const float*>(w.data);
        out.push_back(w.transposed ? values[c * w.row_stride + r] : values[r * w.row_stride + c]);
      }
    }
  };
  const auto add_vector = [&](const float* values, int64_t n) {
    if (values != nullptr) out.insert(out.end(), values, values + n);
  };
  for_each_tensor(Overloaded{add,
                             [&](const Norm& norm) {
                               add_vector(norm.weight, norm.n);
                               add_vector(norm.bias, norm.n);
                             },
                             [&](const Linear& linear) {
                               add(linear.weight);
                               add_vector(linear.bias, linear.weight.n_out);
                             }},
                  weights);
  return out;
}

class GgufModelGolden : public testing::TestWithParam<const char*> {};

TEST_P(GgufModelGolden, WeightsAndLogitsAreThoseOfTheFolder) {
  const std::string folder = golden_model(GetParam());
  Runner ours(gguf_model_file(GetParam())), theirs(folder);
  EXPECT_EQ(all_weights(ours.decoder().weights()), all_weights(theirs.decoder().weights()));
  const GoldenFile golden(folder + "/golden.safetensors");
  const Json settings = read_json(folder + "/golden.json");
  const TokenSet separators = golden_separators(settings["separators"], ours.vocab_size());
  for (const auto& [name, policy] : settings["policies"].items()) {
    const Logits logits = ours.whole(golden.ints("ids"), golden_policy(policy), separators);
    EXPECT_EQ(logits, theirs.whole(golden.ints("ids"), golden_policy(policy), separators)) << name;
    Logits rows;
    const auto n = static_cast<size_t>(ours.vocab_size());
    for (const int32_t r : golden.ints("rows")) {
      const float* row = logits.data() + static_cast<size_t>(r) * n;
      rows.insert(rows.end(), row, row + n);
    }
    EXPECT_LE(max_difference(rows, golden.floats("logits_" + name)), 1e-4F) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Files, GgufModelGolden,
                         testing::Values("llama_gqa", "llama_bias", "llama_rope_llama3_new", "neox_parallel",
                                         "gpt2", "qwen2", "qwen3", "olmo2", "phi3", "falcon_7b", "falcon_11b",
                                         "falcon_40b"),
                         [](const auto& file) { return std::string(file.param); });

// Matrices of nine types of blocks, and Llama 3.1's scaling of positions, which the file has as rope_freqs.
TEST(GgufModels, BlocksOfManyTypesGiveTheLogitsOfTheirNumbers) {
  const std::string file = gguf_model_file("blocks");
  const GoldenFile golden(golden_folder() + "/gguf_models/blocks.safetensors");
  const auto difference = [&](std::optional<DType> type, bool exact) {
    Runner runner(file, 1, {.type = type});
    if (exact) runner.set_exact();
    const Policy full;
    const Logits logits = runner.whole(golden.ints("ids"), full, TokenSet(runner.vocab_size()));
    return max_difference(logits, golden.floats("logits"));
  };
  EXPECT_LE(difference(DType::kF32, true), 1e-4F);
  // As they are stored. Some types are converted to f16, which has more digits than the blocks.
  EXPECT_LE(difference({}, true), 0.02F);
  // With activations rounded to 8 bits, which is much in a model whose weights are random.
  EXPECT_LE(difference({}, false), 1.0F);
}

// What their files do not say is as llama.cpp has it: every sixth layer of Gemma 3 is global, the others have
// a window and a rope of their own; every fourth layer of SmolLM 3 does not rotate.
TEST(GgufModels, PatternsOfLayersThatAreTakenForGranted) {
  for (const char* name : {"gemma3", "smollm3"}) {
    const GoldenFile golden(golden_folder() + "/gguf_models/" + name + ".safetensors");
    Runner runner(gguf_model_file(name));
    const Logits logits = runner.whole(golden.ints("ids"), Policy{}, TokenSet(runner.vocab_size()));
    EXPECT_LE(max_difference(logits, golden.floats("logits")), 1e-4F) << name;
  }
}

}  // namespace
}  // namespace sepllm::test
