// Tests the definition of attention by a pattern independently of itself: by the formula for equal scores,
// and by central differences of a loss for its gradients. (tests/golden compares both with PyTorch.)
#include "kernels/attention/pattern_attention_ref.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "kernels/attention/pattern_attention_test_support.h"

namespace sepllm {
namespace {

using test::AttentionCase;
using test::AttentionShape;
using test::CaseOptions;
using test::QkvTensors;
using test::Random;

// With queries of zero, every visible key has the same weight: out is the mean of its values, and log_sum_exp
// the logarithm of their number.
TEST(PatternAttentionReference, SeesWhatThePatternShows) {
  Random rng(1);
  for (int round = 0; round < 30; ++round) {
    const int64_t n = test::draw(rng, 1, 40);
    const Pattern pattern = test::random_pattern(rng, n);
    std::vector<double> q(n, 0.0), v, out(n), log_sum_exp(n);
    for (int64_t j = 0; j < n; ++j) v.push_back(static_cast<double>(j * j));
    const auto visible = [&](int64_t i, int64_t j) { return pattern.visible(i, j); };
    masked_head_forward({.visible = visible,
                         .n_rows = n,
                         .head_dim = 1,
                         .scale = 1,
                         .q = q.data(),
                         .k = v.data(),
                         .v = v.data()},
                        out.data(), log_sum_exp.data());
    for (int64_t i = 0; i < n; ++i) {
      double sum = 0, count = 0;
      for (int64_t j = 0; j < n; ++j) {
        if (pattern.visible(i, j)) sum += v[j], count += 1;
      }
      EXPECT_NEAR(out[i], sum / count, 1e-9);
      EXPECT_NEAR(log_sum_exp[i], std::log(count), 1e-12);
    }
  }
}

// The operands of a case in double, of which one number can be moved, and the loss sum(out * d_out).
class Loss {
 public:
  explicit Loss(const AttentionCase& c) : c_(c) {}

  // The loss with `step` added to element d of row r of head h of one operand.
  double moved(const test::Tensor* operand, int64_t r, int64_t h, int64_t d, double step) {
    moved_ = {operand, r, h, d, step};
    double loss = 0;
    for (const PatternSequence& s : c_.sequences()) {
      if (r < s.first_row || r >= s.first_row + s.n_rows) continue;  // the others do not change
      for (int64_t head = 0; head < c_.options().shape.n_heads; ++head) loss += of_head(s, head);
    }
    return loss;
  }

 private:
  std::vector<double> rows(const test::Tensor& t, const PatternSequence& s, int64_t head) const {
    std::vector<double> out;
    for (int64_t r = s.first_row; r < s.first_row + s.n_rows; ++r) {
      out.insert(out.end(), t.row(r, head), t.row(r, head) + t.places.heads.dim);
    }
    if (moved_.operand == &t && moved_.h == head)
      out[static_cast<size_t>((moved_.r - s.first_row) * t.places.heads.dim + moved_.d)] += moved_.step;
    return out;
  }

  double of_head(const PatternSequence& s, int64_t head) const {
    const AttentionShape& shape = c_.options().shape;
    const int64_t kv_head = head / (shape.n_heads / shape.n_kv_heads);
    const std::vector<double> q = rows(c_.qkv().q, s, head), k = rows(c_.qkv().k, s, kv_head),
                              v = rows(c_.qkv().v, s, kv_head), d_out = rows(c_.d_out(), s, head);
    std::vector<double> out(q.size()), log_sum_exp(static_cast<size_t>(s.n_rows));
    const auto visible = [&](int64_t i, int64_t j) { return s.pattern->visible(i, j); };
    masked_head_forward({.visible = visible,
                         .n_rows = s.n_rows,
                         .head_dim = shape.head_dim,
                         .scale = c_.scale(),
                         .slope = c_.slope(head),
                         .q = q.data(),
                         .k = k.data(),
                         .v = v.data()},
                        out.data(), log_sum_exp.data());
    double loss = 0;
    for (size_t i = 0; i < out.size(); ++i) loss += out[i] * d_out[i];
    return loss;
  }

  const AttentionCase& c_;
  struct {
    const test::Tensor* operand;
    int64_t r, h, d;
    double step;
  } moved_{};
};

// Compares every element of one gradient with the central difference; relative to the largest of the tensor.
double worst_error(const AttentionCase& c, Loss& loss, const test::Tensor& operand,
                   const test::Tensor& gradient) {
  constexpr double kStep = 1e-4;  // the error of the difference is about its square
  double worst = 0, largest = 0;
  for (const int64_t r : c.rows()) {
    for (int64_t h = 0; h < operand.places.heads.n; ++h) {
      for (int64_t d = 0; d < operand.places.heads.dim; ++d) {
        const double numeric =
            (loss.moved(&operand, r, h, d, kStep) - loss.moved(&operand, r, h, d, -kStep)) / (2 * kStep);
        const double error = std::abs(numeric - gradient.row(r, h)[d]);
        if (std::isnan(error)) return error;
        worst = std::max(worst, error);
        largest = std::max(largest, std::abs(numeric));
      }
    }
  }
  EXPECT_GT(largest, 1e-3);
  return worst / largest;
}

// Tests the public reference, including strides and groups. It returns floats, so there is a rounding error
// of 6e-8.
TEST(PatternAttentionReference, GradientsAreCentralDifferencesOfTheForwardPass) {
  constexpr AttentionShape kShapes[] = {{1, 1, 3}, {2, 1, 4}, {3, 1, 2}, {4, 2, 3}, {2, 2, 5}};
  double worst = 0;
  uint32_t seed = 0;
  for (const AttentionShape& shape : kShapes) {
    for (const bool alibi : {false, true}) {
      Random rng(++seed);
      CaseOptions o{.shape = shape, .alibi = alibi, .key_size = 2, .seed = std::to_string(seed)};
      for (int i = 0; i < 2; ++i) {
        o.lengths.push_back(test::draw(rng, 5, 14));
        o.patterns.push_back(test::random_pattern(rng, o.lengths.back()));
        o.patterns.back().window = std::max<int64_t>(2, o.patterns.back().window);
      }
      const AttentionCase c(o, rng);
      SCOPED_TRACE(c.describe());
      test::Threads t(2);
      const AttentionCase::Forward f = c.forward(t.context, pattern_attention_reference);
      const QkvTensors g = c.backward(t.context, pattern_attention_backward_reference, f, false);
      Loss loss(c);
      for (const auto& [operand, gradient] :
           {std::pair(&c.qkv().q, &g.q), std::pair(&c.qkv().k, &g.k), std::pair(&c.qkv().v, &g.v)}) {
        const double error = worst_error(c, loss, *operand, *gradient);
        EXPECT_LE(error, 1e-6);
        worst = std::max(worst, error);
      }
      EXPECT_EQ(g.damaged(), 0);
    }
  }
  RecordProperty("worst", testing::PrintToString(worst));
}

}  // namespace
}  // namespace sepllm
