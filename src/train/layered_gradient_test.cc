// Gradients of a model whose layers differ in all that they may differ in, by finite differences.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "tests/support/layered_model.h"
#include "train/learner.h"

namespace sepllm {
namespace {

void draw(Parameters* parameters) {
  uint64_t stream = 0;
  for (const ParameterInfo& p : parameters->list()) {
    const Rng rng(11, stream++);
    // (Norms multiply by 1 + weight.)
    const double deviation = p.decays ? 1 / std::sqrt(static_cast<double>(p.shape.back())) : 0.2;
    float* values = parameters->values(p);
    for (int64_t i = 0; i < p.size; ++i)
      values[i] = static_cast<float>(deviation * rng.normal(static_cast<uint64_t>(i)));
  }
}

Sample random_sample(int64_t n_tokens, std::vector<int64_t> document_starts) {
  Sample sample;
  const Rng rng(2);
  for (int64_t t = 0; t <= n_tokens; ++t) sample.tokens.push_back(static_cast<int32_t>(rng.bits(t) % 250));
  sample.document_starts = std::move(document_starts);
  return sample;
}

void expect_finite_differences(const ModelSpec& spec, const Policy& policy) {
  constexpr int64_t kTokens = 24;
  ThreadPool pool(2);
  Learner learner(spec, pool);
  TokenSet separators(spec.config.vocab_size);
  for (int32_t id = 0; id < 60; ++id) separators.insert(id);
  learner.set_patterns({policy, separators, /*document_mask=*/true});
  draw(&learner.parameters());
  const Sample sample = random_sample(kTokens, {0, 11});

  learner.clear_gradients();
  const double loss = learner.accumulate({&sample, 1}, 1.0);
  EXPECT_NEAR(loss, learner.evaluate({&sample, 1}), 1e-3);
  const std::vector<float> gradients(learner.gradients().begin(), learner.gradients().end());
  uint64_t stream = 100;
  for (const ParameterInfo& p : learner.parameters().list()) {
    const Rng direction(7, stream++);
    float* values = learner.parameters().values(p);
    const std::vector<float> old(values, values + p.size);
    double slope = 0, norm = 0;
    std::vector<double> v;
    for (int64_t i = 0; i < p.size; ++i) v.push_back(direction.normal(static_cast<uint64_t>(i)));
    for (const double x : v) norm += x * x;
    const double step = 0.01 / std::sqrt(norm) * (p.decays ? 1 : 2);
    const auto moved = [&](double by) {
      float* to = learner.parameters().values(p);
      for (size_t i = 0; i < v.size(); ++i) to[i] = static_cast<float>(old[i] + by * v[i]);
      return learner.evaluate({&sample, 1});
    };
    for (size_t i = 0; i < v.size(); ++i) slope += v[i] * gradients[static_cast<size_t>(p.offset) + i];
    const double difference = (moved(step) - moved(-step)) / (2 * step);
    moved(0);
    const double scale = std::sqrt(norm) * 0.05;  // what rounding may come to
    EXPECT_NEAR(slope, difference, 0.02 * std::abs(slope) + scale) << p.name;
    EXPECT_GT(std::abs(slope), 0) << p.name;
  }
  // Activations that are made again give the same.
  learner.set_replay_layers(true);
  learner.clear_gradients();
  learner.accumulate({&sample, 1}, 1.0);
  EXPECT_TRUE(std::equal(gradients.begin(), gradients.end(), learner.gradients().begin()));
}

TEST(LayeredGradient, AgreesWithFiniteDifferences) {
  Policy policy;
  policy.kind = PolicyKind::kSep;
  policy.init = 2;
  policy.window = 6;
  expect_finite_differences(test::layered_spec(), policy);
}

// With gates. Every block is seen, because a choice that changes has no slope. The first layer has a window
// of its own, and the last one follows another policy.
TEST(LayeredGradient, OfNativeSparseAttention) {
  ModelSpec spec = test::layered_spec();
  add_nsa_gates(&spec, "config.json");
  EXPECT_FALSE(spec.config.layer(0).nsa_gates);
  spec.config.layers[3].nsa_gates = false;
  Policy policy;
  policy.kind = PolicyKind::kNsa;
  policy.block_size = 3;
  policy.blocks = 5;
  policy.window = 5;
  policy.layer_policy[3] = {.kind = PolicyKind::kFull};
  expect_finite_differences(spec, policy);
}

// The backward pass takes the choice of the forward pass, and one that is made again is the same. (Kernels'
// gradients are compared with PyTorch's in tests/golden.)
TEST(LayeredGradient, QueriesThatChooseAmongBlocks) {
  ThreadPool pool(2), one(1);
  const ModelSpec plain = test::layered_spec();
  ModelSpec gated = plain;
  add_nsa_gates(&gated, "config.json");
  TokenSet separators(plain.config.vocab_size);
  for (int32_t id = 0; id < 60; ++id) separators.insert(id);
  const Sample sample = random_sample(60, {0, 41});
  for (const PolicyKind kind : {PolicyKind::kMoba, PolicyKind::kSepMoba, PolicyKind::kNsa}) {
    const ModelSpec& spec = kind == PolicyKind::kNsa ? gated : plain;
    Policy policy;
    policy.kind = kind;
    policy.block_size = 5;
    policy.blocks = 3;
    policy.layer_policy = {{-1, {PolicyKind::kFull}}};
    std::vector<float> before;
    for (const bool replays : {false, true}) {
      for (ThreadPool* threads : {&pool, &one}) {
        Learner learner(spec, *threads);
        learner.set_patterns({policy, separators, /*document_mask=*/true});
        learner.set_replay_layers(replays);
        draw(&learner.parameters());
        learner.clear_gradients();
        const double loss = learner.accumulate({&sample, 1}, 1.0);
        EXPECT_NEAR(loss, learner.evaluate({&sample, 1}), 1e-3);
        const std::vector<float> gradients(learner.gradients().begin(), learner.gradients().end());
        if (before.empty()) before = gradients;
        EXPECT_TRUE(gradients == before) << policy_name(kind);
        EXPECT_TRUE(
            std::all_of(gradients.begin(), gradients.end(), [](float g) { return std::isfinite(g); }));
      }
    }
  }
}

}  // namespace
}  // namespace sepllm
