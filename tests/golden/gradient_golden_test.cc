// Compares gradients of the whole decoder and steps of AdamW, for every family, variant and policy, with
// PyTorch's autograd in double precision (README.md here).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "kernels/rowwise/adamw.h"
#include "model/stored_names.h"
#include "ops/ops.h"
#include "tests/support/golden.h"
#include "train/parameters.h"

namespace sepllm::test {
namespace {

constexpr double kGradientTolerance = 1e-4;

// A model in training, reduced to one sequence.
struct Trainee {
  explicit Trainee(const std::string& folder, int n_threads = 1)
      : spec(read_checkpoint_spec(folder)), parameters(spec), pool(n_threads), tape(arena, pool) {
    parameters.load(folder, spec);
    decoder.emplace(spec.config, parameters.views());
    gradients.assign(static_cast<size_t>(parameters.size()), 0.0F);
    parameters.name_gradients(tape, gradients.data());
  }

  // The mean loss of all tokens but the first; writes its gradient to `gradients`.
  double loss(std::span<const int32_t> ids, std::span<const Pattern> patterns, bool replay = false) {
    std::fill(gradients.begin(), gradients.end(), 0.0F);
    const Context ctx{.pool = pool, .arena = arena, .tape = &tape};
    const Arena::Scope scope(arena);
    const Sequence sequence{.tokens = ids.first(ids.size() - 1), .patterns = patterns};
    const size_t n = ids.size() - 1;
    const std::vector<float> factors(n, static_cast<float>(1.0 / static_cast<double>(n)));
    std::vector<double> nll(n);
    const Matrix hidden = decoder->forward(ctx, {&sequence, 1}, nullptr, replay);
    decoder->loss(ctx, hidden, ids.subspan(1), factors.data(), nll.data());
    tape.backward(ctx);
    double sum = 0;
    for (const double x : nll) sum += x;
    return sum / static_cast<double>(n);
  }

  ModelSpec spec;
  Parameters parameters;
  ThreadPool pool;
  Arena arena, workspace;
  Tape tape;
  std::optional<Decoder> decoder;
  std::vector<float> gradients;
};

class GradientGolden : public testing::TestWithParam<std::string> {
 protected:
  GradientGolden()
      : folder_(golden_model(GetParam())),
        golden_(folder_ + "/golden.safetensors"),
        gradients_(folder_ + "/gradients.safetensors"),
        settings_(read_json(folder_ + "/golden.json")) {}

  // For the tokens whose next token is known.
  std::vector<Pattern> patterns(const Json& settings, const Trainee& trainee) const {
    const TokenSet separators = golden_separators(settings_["separators"], trainee.spec.config.vocab_size);
    const std::span<const int32_t> ids = golden_.ints("ids");
    const Policy policy = golden_policy(settings);
    std::vector<Pattern> out;
    const ModelConfig& c = trainee.spec.config;
    for (int64_t l = 0; l < c.n_layers; ++l) {
      out.push_back(policy.rule(l, c.n_layers, c.layer(l).window)
                        .pattern(ids.data(), static_cast<int64_t>(ids.size()) - 1, separators));
    }
    return out;
  }

  std::string folder_;
  GoldenFile golden_, gradients_;
  Json settings_;
};

TEST_P(GradientGolden, OfEveryParameterUnderEveryPolicy) {
  Trainee trainee(folder_);
  for (const auto& [name, settings] : settings_["policies"].items()) {
    trainee.loss(golden_.ints("ids"), patterns(settings, trainee));
    for (const ParameterInfo& p : trainee.parameters.list()) {
      const std::string short_name = p.name.substr(p.name.find('.') + 1);
      const std::string array = name + "/" + p.name;
      const std::span<const float> golden =
          gradients_.floats(gradients_.has(array) ? array : name + "/" + short_name);
      const float* ours = trainee.gradients.data() + p.offset;
      double squares = 0;
      for (int64_t i = 0; i < p.size; ++i) squares += static_cast<double>(ours[i]) * ours[i];
      EXPECT_NEAR(std::sqrt(squares), golden[0], kGradientTolerance * golden[0] + 1e-7) << array;
      const auto count = static_cast<int64_t>(golden.size()) - 1;
      // Elements of a gradient are sums: their error is proportional to the tensor's typical element.
      const double typical = golden[0] / std::sqrt(static_cast<double>(p.size));
      for (int64_t i = 0; i < count; ++i) {
        const double expected = golden[static_cast<size_t>(1 + i)];
        EXPECT_NEAR(ours[i * p.size / count], expected,
                    kGradientTolerance * std::max(std::abs(expected), typical) + 1e-8)
            << array << " element " << i * p.size / count;
      }
    }
  }
}

TEST_P(GradientGolden, SameBitsForAnyThreadsAndWithReplayedLayers) {
  Trainee one(folder_), three(folder_, 3), replayed(folder_, 2);
  const Json& settings = settings_["policies"]["sep"];
  const double loss = one.loss(golden_.ints("ids"), patterns(settings, one));
  EXPECT_EQ(loss, three.loss(golden_.ints("ids"), patterns(settings, three)));
  EXPECT_EQ(loss, replayed.loss(golden_.ints("ids"), patterns(settings, replayed), true));
  EXPECT_EQ(one.gradients, three.gradients);
  EXPECT_EQ(one.gradients, replayed.gradients);
}

// Activations that are kept in bf16 lose bits 9 to 24 of their significands, with errors in both directions.
TEST_P(GradientGolden, ActivationsKeptInBf16) {
  Trainee one(folder_);
  for (const bool replay : {false, true}) {
    Trainee packed(folder_), three(folder_, 3);
    for (Trainee* t : {&packed, &three}) t->tape.set_packing(ops::bf16_packing(), &t->workspace);
    for (const auto& [name, settings] : settings_["policies"].items()) {
      const double loss = one.loss(golden_.ints("ids"), patterns(settings, one));
      // The forward pass is the same as with f32.
      EXPECT_EQ(packed.loss(golden_.ints("ids"), patterns(settings, packed), replay), loss) << name;
      EXPECT_EQ(three.loss(golden_.ints("ids"), patterns(settings, three), replay), loss) << name;
      EXPECT_EQ(packed.gradients, three.gradients) << name;
      double total = 0, norm_of_weight = 0;
      for (const ParameterInfo& p : one.parameters.list()) {
        double error = 0, norm = 0;
        for (int64_t i = p.offset; i < p.offset + p.size; ++i) {
          const double exact = one.gradients[static_cast<size_t>(i)];
          error += std::pow(packed.gradients[static_cast<size_t>(i)] - exact, 2);
          norm += exact * exact;
        }
        // The gradient of keys' biases is a sum of terms that cancel: fully without a rope, else nearly. They
        // are of the size of those of the matrix.
        const double terms = p.name.ends_with("k_proj.bias") ? std::max(norm, norm_of_weight) : norm;
        EXPECT_LE(std::sqrt(error), 0.03 * std::sqrt(terms) + 1e-7) << name << " " << p.name;
        total += error;
        norm_of_weight = norm;
      }
      EXPECT_GT(total, 0) << name;
    }
  }
}

TEST_P(GradientGolden, StepsOfAdamWFollowTheLosses) {
  for (const char* name : {"full", "sep"}) {
    Trainee trainee(folder_);
    const Json& settings = settings_["policies"][name];
    const std::vector<Pattern> own = patterns(settings, trainee);
    const auto n = static_cast<size_t>(trainee.parameters.size());
    std::vector<float> m(n), v(n);
    const std::span<const float> losses = gradients_.floats(std::string("losses_") + name);
    const Context ctx{.pool = trainee.pool, .arena = trainee.arena};
    for (size_t step = 0; step < losses.size(); ++step) {
      EXPECT_NEAR(trainee.loss(golden_.ints("ids"), own), losses[step], 1e-4 * losses[step]) << step;
      for (const ParameterInfo& p : trainee.parameters.list()) {
        const auto at = static_cast<size_t>(p.offset);
        adamw(ctx,
              {.lr = 3e-3F, .weight_decay = p.decays ? 0.1F : 0.0F, .step = static_cast<int64_t>(step) + 1},
              p.size, &trainee.gradients[at], trainee.parameters.values(p), &m[at], &v[at]);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, GradientGolden, testing::ValuesIn(golden_models()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace sepllm::test
