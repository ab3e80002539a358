// The loss of training in mixed precision, compared with the same in f32 on operands that are bf16
// themselves.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/dtype.h"
#include "base/rng.h"
#include "kernels/cpu_features.h"
#include "ops/ops.h"

namespace sepllm {
namespace {

constexpr int64_t kRows = 150, kInputs = 40,
                  kOutputs = 4500;  // two full parts of the outputs and a shorter one

struct Problem {
  std::vector<float> hidden, head, bias, factors;
  std::vector<int32_t> targets;

  Problem() {
    const auto draw = [](int64_t n, uint64_t seed, double size) {
      std::vector<float> out;
      const Rng rng(seed);
      for (int64_t k = 0; k < n; ++k)
        out.push_back(to_float(to_bf16(static_cast<float>(size * rng.normal(static_cast<uint64_t>(k))))));
      return out;
    };
    hidden = draw(kRows * kInputs, 1, 1);
    head = draw(kOutputs * kInputs, 2, 0.4);
    bias = draw(kOutputs, 3, 0.1);
    for (int64_t r = 0; r < kRows; ++r) {
      targets.push_back(static_cast<int32_t>(r * 31 % kOutputs));
      factors.push_back(r % 7 == 0 ? 0.0F : 1.0F / kRows);
    }
    targets[1] = kOutputs - 1;
    bias[2] = 8;  // often likely
    targets[2] = 2;
  }
};

struct Outcome {
  std::vector<double> nll;
  std::vector<float> d_hidden, d_head, d_bias;
  bool operator==(const Outcome&) const = default;
};

Outcome loss_of(const Problem& p, int n_threads, FloatProducts products) {
  ThreadPool pool(n_threads);
  Arena arena;
  Tape tape(arena, pool);
  const Context ctx{.pool = pool, .arena = arena, .float_products = products, .tape = &tape};
  Outcome out{std::vector<double>(kRows), std::vector<float>(kRows * kInputs),
              std::vector<float>(kOutputs * kInputs, 0.5F), std::vector<float>(kOutputs, 0.25F)};
  tape.set_parameter(p.head.data(), out.d_head.data());
  tape.set_parameter(p.bias.data(), out.d_bias.data());
  const Matrix hidden = tape.activation(kRows, kInputs);
  std::copy(p.hidden.begin(), p.hidden.end(), hidden.data);
  tape.record([slot = tape.slot(hidden), &out](const Context& c) {  // the last one of the backward pass
    const Matrix d = c.tape->gradient(slot);
    std::copy_n(d.data, kRows * kInputs, out.d_hidden.data());
  });
  const Weight head{DType::kF32, p.head.data(), kOutputs, kInputs, kInputs, false};
  ops::cross_entropy(
      ctx, hidden, {.head = &head, .bias = p.bias.data(), .targets = p.targets, .factors = p.factors.data()},
      out.nll.data());
  tape.backward(ctx);
  return out;
}

// Differences as a share of the largest value.
double difference(std::span<const float> a, std::span<const float> b, float start = 0) {
  double most = 0, worst = 0;
  for (size_t k = 0; k < a.size(); ++k) {
    most = std::max<double>(most, std::abs(b[k] - start));
    worst = std::max<double>(worst, std::abs(a[k] - b[k]));
  }
  return worst / most;
}

TEST(CrossEntropy, InMixedPrecisionIsThatOfF32UpToTheRounding) {
  if (!cpu_has_bf16_products()) GTEST_SKIP() << "this processor has no products of bf16";
  const Problem p;
  const Outcome expected = loss_of(p, 2, FloatProducts::kF32), got = loss_of(p, 1, FloatProducts::kBF16);
  for (size_t r = 0; r < got.nll.size(); ++r) EXPECT_NEAR(got.nll[r], expected.nll[r], 2e-5) << r;
  EXPECT_LE(difference(got.d_hidden, expected.d_hidden), 0.01);
  EXPECT_LE(difference(got.d_head, expected.d_head, 0.5F), 0.01);
  EXPECT_LE(difference(got.d_bias, expected.d_bias, 0.25F), 0.01);
  // Rows with factor 0 leave nothing.
  EXPECT_TRUE(
      std::all_of(got.d_hidden.begin(), got.d_hidden.begin() + kInputs, [](float d) { return d == 0; }));
  EXPECT_EQ(loss_of(p, 3, FloatProducts::kBF16), got);
}

}  // namespace
}  // namespace sepllm
