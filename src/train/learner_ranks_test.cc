// Several ranks train one model: new weights travel while the next forward pass computes.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/rng.h"
#include "base/thread_pool.h"
#include "model/config.h"
#include "train/comm_test_support.h"
#include "train/learner.h"
#include "train/new_model.h"
#include "train/train_config.h"

namespace sepllm {
namespace {

constexpr int64_t kTokens = 20, kVocabulary = 300, kSteps = 4;

// About 20 buckets, which end in the middle of layers.
ModelSpec model_of_ranks() {
  TrainConfig config;
  config.n_layers = 4;
  config.hidden_size = 64;
  config.n_heads = 4;
  config.seq_length = kTokens;
  return parse_model_spec(new_model_config(config, kVocabulary, -1, -1), "the model");
}

Sample sample_of(int rank, int64_t step) {
  Sample sample{.tokens = {}, .document_starts = {0}};
  const Rng rng(static_cast<uint64_t>(7 * step + rank));
  for (uint64_t t = 0; t <= kTokens; ++t)
    sample.tokens.push_back(static_cast<int32_t>(rng.bits(t) % kVocabulary));
  return sample;
}

// What happens after each step.
enum class After { kNothing, kWait, kEvaluate, kRead };

struct Outcome {
  std::vector<float> weights;
  std::vector<double> losses;
  bool operator==(const Outcome&) const = default;
};

Outcome train_on(Comm& comm, After after, DType storage, bool replays) {
  ThreadPool pool(1);
  Learner learner(model_of_ranks(), pool, &comm);
  learner.set_replay_layers(replays);
  learner.set_weight_storage(storage);
  initialise(&learner.parameters(), learner.spec(), "pythia", 3);
  Outcome out;
  for (int64_t step = 1; step <= kSteps; ++step) {
    const Sample sample = sample_of(comm.rank(), step);
    learner.clear_gradients();
    double losses[] = {learner.accumulate({&sample, 1}, 1.0 / kTokens), 0};
    const double norm = learner.gradient_norm();
    EXPECT_GT(norm, 0);
    learner.step({.lr = 1e-2F,
                  .beta1 = 0.9F,
                  .beta2 = 0.95F,
                  .eps = 1e-8F,
                  .weight_decay = 0.1F,
                  .gradient_scale = static_cast<float>(1 / norm),
                  .step = step});
    if (after == After::kWait) learner.complete_parameters();
    if (after == After::kRead) {
      const Parameters& parameters = learner.parameters();
      for (int64_t i = 0; i < parameters.size(); ++i) losses[1] += parameters.data()[i];
    }
    if (after == After::kEvaluate) losses[1] = learner.evaluate({&sample, 1});
    out.losses.insert(out.losses.end(), losses, losses + 2);
  }
  const Parameters& parameters = learner.parameters();
  out.weights.assign(parameters.data(), parameters.data() + parameters.size());
  return out;
}

std::vector<Outcome> outcomes_of(int n_ranks, int slow, After after, DType storage, bool replays) {
  test::Hub hub(n_ranks);
  hub.slow = slow;
  std::vector<Outcome> out(static_cast<size_t>(n_ranks));
  test::on_ranks(n_ranks, hub, {}, [&](Comm& comm) {
    out[static_cast<size_t>(comm.rank())] = train_on(comm, after, storage, replays);
    comm.leave();
  });
  return out;
}

TEST(LearnerRanks, WeightsThatArriveDuringTheForwardPassGiveTheSameBits) {
  for (const int n_ranks : {2, 3}) {
    for (const DType storage : {DType::kF32, DType::kBF16}) {
      for (const bool replays : {false, true}) {
        SCOPED_TRACE(testing::Message() << n_ranks << dtype_name(storage) << replays);
        const auto expected = outcomes_of(n_ranks, 0, After::kWait, storage, replays);
        for (const Outcome& o : expected) EXPECT_EQ(o.weights, expected[0].weights);
        EXPECT_EQ(outcomes_of(n_ranks, 15, After::kNothing, storage, replays), expected);
      }
    }
  }
}

TEST(LearnerRanks, WhoReadsOrEvaluatesRightAfterAStepSeesAllWeights) {
  for (const After after : {After::kRead, After::kEvaluate}) {
    const auto quick = outcomes_of(2, 0, after, DType::kBF16, false);
    EXPECT_EQ(outcomes_of(2, 15, after, DType::kBF16, false), quick);
    EXPECT_NE(quick[0].losses[1], 0);
    if (after == After::kRead) {
      for (size_t k = 1; k < quick[0].losses.size(); k += 2)
        EXPECT_EQ(quick[0].losses[k], quick[1].losses[k]);
    }
    EXPECT_EQ(quick[0].weights, outcomes_of(2, 0, After::kWait, DType::kBF16, false)[0].weights);
  }
}

// A rank that ends while its weights are on their way waits for them, because messages use its memory.
TEST(LearnerRanks, AnEndWhileWeightsTravelIsSafe) {
  test::Hub hub(2);
  hub.slow = 15;
  test::on_ranks(2, hub, {}, [&](Comm& comm) {
    ThreadPool pool(1);
    {
      Learner learner(model_of_ranks(), pool, &comm);
      learner.clear_gradients();
      learner.gradient_norm();
      learner.step({.lr = 1e-2F, .beta1 = 0.9F, .beta2 = 0.95F, .eps = 1e-8F, .step = 1});
    }
    comm.leave();
  });
}

}  // namespace
}  // namespace sepllm
