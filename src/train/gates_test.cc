// The gates of native sparse attention as parameters: where they come from when a model is new, or has none.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "model/random_model.h"
#include "tests/support/expect_error.h"
#include "tests/support/support.h"
#include "train/new_model.h"
#include "train/parameters.h"

namespace sepllm {
namespace {

std::vector<float> values_of(Parameters& parameters, const std::string& name) {
  for (const ParameterInfo& p : parameters.list()) {
    if (p.name == name) return {parameters.values(p), parameters.values(p) + p.size};
  }
  ADD_FAILURE() << name;
  return {};
}

// All that `plain` has is the same in `gated`; the rest are gates, each of these numbers.
void expect_same_but_gates(Parameters& plain, Parameters& gated, const std::set<std::string>& gates) {
  EXPECT_EQ(gated.list().size(), plain.list().size() + gates.size());
  for (const ParameterInfo& p : plain.list())
    EXPECT_EQ(values_of(gated, p.name), values_of(plain, p.name)) << p.name;
  for (const std::string& name : gates) {
    const std::vector<float> values = values_of(gated, name);
    EXPECT_TRUE(std::all_of(values.begin(), values.end(), [](float x) { return x == 0; })) << name;
  }
}

const std::set<std::string> kLlamaGates = {"model.layers.0.self_attn.g_proj.weight",
                                           "model.layers.1.self_attn.g_proj.weight"};

TEST(Gates, ANewModelHasTheWeightsThatItHasWithoutThem) {
  const ModelSpec plain_spec =
      parse_model_spec(random_model_config({.variant = "llama", .n_layers = 2}), "config.json");
  ModelSpec spec = plain_spec;
  add_nsa_gates(&spec, "config.json");
  EXPECT_EQ(gate_names(spec), kLlamaGates);
  Parameters plain(plain_spec), gated(spec);
  initialise(&plain, plain_spec, "gpt2", 5);
  initialise(&gated, spec, "gpt2", 5);
  expect_same_but_gates(plain, gated, kLlamaGates);
}

TEST(Gates, AModelWithoutThemGetsThem) {
  const test::TemporaryFolder folder;
  write_random_model(folder.path(), {.variant = "llama", .n_layers = 2});
  const ModelSpec plain_spec = read_model_spec(folder.path());
  ModelSpec spec = plain_spec;
  add_nsa_gates(&spec, "config.json");
  Parameters plain(plain_spec), gated(spec);
  plain.load(folder.path(), plain_spec);
  for (const ParameterInfo& p : gated.list()) std::fill_n(gated.values(p), p.size, 7.0F);
  gated.load(folder.path(), spec);
  expect_same_but_gates(plain, gated, kLlamaGates);
}

TEST(Gates, StoredOnesAreLoaded) {
  const test::TemporaryFolder folder;
  write_random_model(folder.path(),
                     {.variant = "llama", .n_layers = 2, .extra_config = {{kNsaGatesKey, true}}});
  const ModelSpec spec = read_model_spec(folder.path());
  EXPECT_TRUE(spec.config.has_nsa_gates());
  const ModelWeights weights = load_weights(folder.path(), spec);
  Parameters parameters(spec);
  parameters.load(folder.path(), spec);
  const std::vector<float> values = values_of(parameters, *kLlamaGates.begin());
  const Weight& stored = weights.layers[0].gates.weight;
  EXPECT_EQ(stored.n_out, 3 * spec.config.n_heads);
  EXPECT_EQ(stored.n_in, spec.config.hidden_size);
  ASSERT_EQ(stored.type, DType::kF32);
  EXPECT_TRUE(std::equal(values.begin(), values.end(), static_cast<const float*>(stored.data)));
  EXPECT_NE(values, std::vector<float>(values.size(), 0.0F));
}

TEST(Gates, NotWithAlibi) {
  test::expect_error(
      [] {
        parse_model_spec(
            random_model_config({.variant = "falcon-rw", .extra_config = {{kNsaGatesKey, true}}}),
            "config.json");
      },
      ErrorCode::kUnsupported, {"ALiBi", "config.json"});
}

}  // namespace
}  // namespace sepllm
