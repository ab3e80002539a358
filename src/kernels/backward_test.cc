// The backward kernels of training against their definitions in double precision.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

#include "kernels/kernel_test_support.h"
#include "kernels/linear/linear_backward.h"
#include "kernels/rowwise/adamw.h"
#include "kernels/rowwise/elementwise_backward.h"
#include "kernels/rowwise/elementwise_rows.h"
#include "kernels/rowwise/norm.h"

namespace sepllm {
namespace {

using test::max_difference;
using test::Rows;

double max_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(static_cast<double>(a[i]) - b[i]));
  return worst;
}

TEST(NormBackward, AgreesWithTheDefinition) {
  for (const int64_t n_cols : {1, 3, 17, 64, 769}) {
    for (const int64_t n_rows : {1, 2, 150}) {
      for (const bool rms : {true, false}) {
        SCOPED_TRACE(testing::Message() << n_rows << "x" << n_cols << " rms " << rms);
        Rows x(n_rows, n_cols, 3, 1), dy(n_rows, n_cols, 2), weight(1, n_cols, 0, 2), dx(n_rows, n_cols, 5);
        x.fill(1, -2, 4);
        dy.fill(2);
        weight.fill(3);
        dx.fill(4);
        const auto columns = static_cast<size_t>(n_cols);
        std::vector<float> dw(columns, 0.5F), db(columns, -0.5F);
        NormBackward norm{
            .rms = rms, .weight = weight.matrix().data, .dweight = dw.data(), .dbias = db.data()};
        Rows expected = dx;
        norm_backward_reference(x.matrix(), norm, dy.matrix(), expected.matrix(), true);
        const double tolerance = 3e-5 * std::sqrt(static_cast<double>(n_rows));
        test::for_each_target([&] {
          test::Threads t(3);
          Rows got = dx;
          std::vector<float> own_dw(columns, 0.5F), own_db(columns, -0.5F);
          norm.dweight = own_dw.data();
          norm.dbias = own_db.data();
          norm_backward(t.context, x.matrix(), norm, dy.matrix(), got.matrix(), true);
          EXPECT_LE(max_difference(got.matrix(), expected.matrix()), n_cols < 4 ? 3e-3 : 2e-5);
          EXPECT_LE(max_difference(own_dw, dw), tolerance);
          EXPECT_LE(max_difference(own_db, db), tolerance);
          EXPECT_EQ(got.damaged(), 0);
          // In place; results overwritten; without the weights' gradients.
          Rows in_place = dy, plain = dy;
          norm.dweight = norm.dbias = nullptr;
          norm_backward(t.context, x.matrix(), norm, in_place.matrix(), in_place.matrix(), false);
          norm_backward_reference(x.matrix(), norm, dy.matrix(), plain.matrix(), false);
          EXPECT_LE(max_difference(in_place.matrix(), plain.matrix()), n_cols < 4 ? 3e-3 : 2e-5);
        });
      }
    }
  }
}

TEST(ActivationBackward, AgreesWithTheDefinition) {
  constexpr int64_t kRows = 5, kCols = 203;
  for (const Activation f :
       {Activation::kGelu, Activation::kGeluTanh, Activation::kRelu, Activation::kSilu}) {
    Rows x(kRows, kCols, 1), up(kRows, kCols, 2), d(kRows, kCols, 3), d_up(kRows, kCols);
    x.fill(1, -12, 12);
    x.at(0, 0) = -1e6F;
    x.at(0, 1) = 1e6F;
    x.at(0, 2) = 0;
    up.fill(2);
    d.fill(3);
    d_up.fill(4);
    Rows plain = d, gated = d, gated_up = d_up;
    activate_backward_reference(f, x.matrix(), nullptr, plain.matrix(), nullptr);
    activate_backward_reference(f, x.matrix(), &up.matrix(), gated.matrix(), &gated_up.matrix());
    test::for_each_target([&] {
      test::Threads t(2);
      Rows a = d, b = d, b_up = d_up;
      activate_backward(t.context, f, x.matrix(), a.matrix());
      EXPECT_LE(max_difference(a.matrix(), plain.matrix()), 3e-6);
      EXPECT_EQ(a.damaged(), 0);
      activate_gated_backward(t.context, f, x.matrix(), up.matrix(), b.matrix(), b_up.matrix());
      EXPECT_LE(max_difference(b.matrix(), gated.matrix()), 3e-6);
      for (int64_t c = 3; c < kCols; ++c) EXPECT_NEAR(b_up.at(0, c), gated_up.at(0, c), 1e-5);
      EXPECT_NEAR(b_up.at(0, 1), gated_up.at(0, 1), 1.0);
      EXPECT_EQ(b.damaged() + b_up.damaged(), 0);
    });
  }
}

// Compares the derivative in the references with differences of the forward definition.
TEST(ActivationBackward, DefinitionsAreTheSlopesOfTheForwardOnes) {
  for (const Activation f : {Activation::kGelu, Activation::kGeluTanh, Activation::kSilu}) {
    for (const float at : {-3.0F, -0.75F, 0.0F, 0.5F, 2.0F}) {
      float x = at, d = 1, low = at - 1e-2F, high = at + 1e-2F;
      const auto one = [](float* p) { return Matrix{p, 1, 1, 1}; };
      activate_backward_reference(f, one(&x), nullptr, one(&d), nullptr);
      const double step = static_cast<double>(high) - low;
      activate_reference(f, one(&low));
      activate_reference(f, one(&high));
      EXPECT_NEAR(d, (static_cast<double>(high) - low) / step, 1e-4) << static_cast<int>(f) << " at " << at;
    }
  }
}

TEST(LinearBackward, AgreesWithTheDefinitionInEveryTypeAndOrder) {
  struct Size {
    int64_t rows, in, out;
  };
  for (const auto [n, n_in, n_out] : {Size{1, 1, 1}, Size{3, 17, 5}, Size{70, 400, 390}}) {
    for (const DType type : test::kAllTypes) {
      for (const bool transposed : {false, true}) {
        SCOPED_TRACE(testing::Message() << n << " " << n_in << " " << n_out << " " << transposed);
        const int64_t stride = (transposed ? n_out : n_in) + 3;
        const std::vector<char> data = test::random_stored(type, (transposed ? n_in : n_out) * stride, 7);
        const Weight w{.type = type,
                       .data = data.data(),
                       .n_out = n_out,
                       .n_in = n_in,
                       .row_stride = stride,
                       .transposed = transposed};
        Rows x(n, n_in, 2), dy(n, n_out, 1), dx(n, n_in, 5);
        x.fill(1);
        dy.fill(2);
        dx.fill(3);
        Rows expected = dx;
        std::vector<float> dw(static_cast<size_t>(n_in * n_out), 0.25F), db(static_cast<size_t>(n_out), 1.0F);
        std::vector<float> own_dw = dw, own_db = db;
        linear_backward_reference(x.matrix(), dy.matrix(), w, expected.matrix(), dw.data(), db.data());
        test::Threads one(1), three(3);
        for (test::Threads* t : {&one, &three}) {
          Rows got = dx;
          std::vector<float> got_dw = own_dw, got_db = own_db;
          linear_backward_input(t->context, dy.matrix(), w, got.matrix());
          linear_backward_weight(t->context, x.matrix(), dy.matrix(), w, got_dw.data(), got_db.data());
          EXPECT_LE(max_difference(got.matrix(), expected.matrix()), 5e-5);
          EXPECT_LE(max_difference(got_dw, dw), 1e-5);
          EXPECT_LE(max_difference(got_db, db), 1e-5);
          EXPECT_EQ(got.damaged(), 0);
        }
      }
    }
  }
}

// Sizes of tiles of bf16 (AMX): ends of groups, panels and blocks; inputs beyond one pass; values that tiles
// cannot hold.
TEST(LinearBackward, ManyRowsAgreeOnEveryInstructionSet) {
  struct Size {
    int64_t rows, in, out;
  };
  for (const auto [n, n_in, n_out] : {Size{513, 530, 70}, Size{600, 50, 4200}, Size{77, 520, 514}}) {
    for (const bool transposed : {false, true}) {
      SCOPED_TRACE(testing::Message() << n << " " << n_in << " " << n_out << " " << transposed);
      const int64_t stride = (transposed ? n_out : n_in) + 3;
      const std::vector<char> data =
          test::random_stored(DType::kF32, (transposed ? n_in : n_out) * stride, 7);
      const Weight w{.type = DType::kF32,
                     .data = data.data(),
                     .n_out = n_out,
                     .n_in = n_in,
                     .row_stride = stride,
                     .transposed = transposed};
      Rows x(n, n_in, 2), dy(n, n_out, 1), dx(n, n_in, 5);
      x.fill(1);
      dy.fill(2);
      dx.fill(3);
      for (int64_t r = 0; r < n; ++r) {
        for (int64_t c = 0; c < 2; ++c) {
          x.at(r, n_in - 1 - c) *= c == 0 ? 1e-30F : 1e36F;
          dy.at(r, 3 + 4 * c) *= c == 0 ? 1e-30F : 1e-12F;
        }
      }
      for (int64_t o = 0; o < n_out; ++o) dy.at(5, o) *= 1e-33F;
      Rows expected = dx;
      const auto size = static_cast<size_t>(n_in * n_out);
      std::vector<float> dw(size, 0.25F);
      linear_backward_reference(x.matrix(), dy.matrix(), w, expected.matrix(), dw.data(), nullptr);
      test::for_each_instruction_set([&] {
        test::Threads one(1), three(3);
        Rows got = dx, again = dx;
        std::vector<float> got_dw(size, 0.25F), again_dw(size, 0.25F);
        linear_backward_input(one.context, dy.matrix(), w, got.matrix());
        linear_backward_weight(one.context, x.matrix(), dy.matrix(), w, got_dw.data(), nullptr);
        EXPECT_LE(max_difference(got.matrix(), expected.matrix()), 2e-6 * static_cast<double>(n_out));
        for (size_t i = 0; i < size; ++i) {
          // The errors of a column of x or dy are proportional to it.
          const auto in = static_cast<int64_t>(transposed ? i / static_cast<size_t>(n_out)
                                                          : i % static_cast<size_t>(n_in));
          const auto out = static_cast<int64_t>(transposed ? i % static_cast<size_t>(n_out)
                                                           : i / static_cast<size_t>(n_in));
          const double x_size = in == n_in - 1 ? 1e-30 : in == n_in - 2 ? 1e36 : 1;
          const double dy_size = out == 3 ? 1e-30 : out == 7 ? 1e-12 : 1;
          ASSERT_NEAR(got_dw[i], dw[i], 3e-5 * x_size * dy_size + 1e-7) << in << " " << out;
        }
        EXPECT_EQ(got.damaged(), 0);
        linear_backward_input(three.context, dy.matrix(), w, again.matrix());
        linear_backward_weight(three.context, x.matrix(), dy.matrix(), w, again_dw.data(), nullptr);
        EXPECT_TRUE(got.same_bits(again));
        EXPECT_EQ(got_dw, again_dw);
      });
    }
  }
}

TEST(EmbedBackward, AddsRowsThatComeTwice) {
  Rows d(4, 70, 2);
  d.fill(1);
  const std::vector<int64_t> ids = {2, 0, 2, 1};
  std::vector<float> table(3 * 70, 1.0F);
  test::Threads t(2);
  embed_backward(t.context, ids, d.matrix(), table.data());
  for (int64_t c = 0; c < 70; ++c) {
    EXPECT_EQ(table[static_cast<size_t>(c)], 1.0F + d.at(1, c));
    EXPECT_EQ(table[static_cast<size_t>(140 + c)], 1.0F + d.at(0, c) + d.at(2, c));
  }
}

TEST(CrossEntropy, LossAndGradientAgreeWithTheDefinition) {
  constexpr int64_t kRows = 3, kVocab = 1003;
  Rows logits(kRows, kVocab, 5);
  logits.fill(1, -8, 8);
  logits.at(1, 10) = 300;  // a certainty
  const std::vector<int32_t> targets = {5, 10, 1002};
  const std::vector<float> factors = {0.5F, 0.25F, 0.0F};
  test::for_each_target([&] {
    test::Threads t(2);
    Rows got = logits;
    std::vector<double> nll(kRows);
    cross_entropy_rows(t.context, got.matrix(), targets, factors.data(), nll.data());
    for (int64_t r = 0; r < kRows; ++r) {
      const auto k = static_cast<size_t>(r);
      double top = -1e9, sum = 0;
      for (int64_t c = 0; c < kVocab; ++c) top = std::max<double>(top, logits.at(r, c));
      for (int64_t c = 0; c < kVocab; ++c) sum += std::exp(logits.at(r, c) - top);
      EXPECT_NEAR(nll[k], top + std::log(sum) - logits.at(r, targets[k]), 1e-5);
      for (int64_t c = 0; c < kVocab; ++c) {
        const double p = std::exp(logits.at(r, c) - top) / sum - (c == targets[k] ? 1 : 0);
        EXPECT_NEAR(got.at(r, c), p * factors[k], 1e-6);
      }
    }
    EXPECT_EQ(got.damaged(), 0);
  });
}

// The pieces of the same for parts of the vocabulary.
TEST(CrossEntropy, RowsOfExponentialsAgreeWithTheDefinition) {
  for (const int64_t n : {1, 15, 16, 1003, 2048}) {
    Rows row(1, n, 3, 1);
    row.fill(static_cast<uint32_t>(n), -9, 9);
    test::for_each_target([&] {
      std::vector<bf16> exps(static_cast<size_t>(n) + 1, bf16{0x1234});
      const LogSum sum = exp_row(row.matrix().data, n, exps.data());
      double top = -1e9, total = 0;
      for (int64_t c = 0; c < n; ++c) top = std::max<double>(top, row.at(0, c));
      EXPECT_EQ(sum.top, top);
      Rows scaled(1, n, 3, 1);
      scaled_row(exps.data(), n, 0.3F, scaled.matrix().data);
      for (int64_t c = 0; c < n; ++c) {
        const double e = std::exp(row.at(0, c) - top);
        total += e;
        EXPECT_NEAR(to_float(exps[static_cast<size_t>(c)]), e, e * 0x1p-8) << c;
        EXPECT_EQ(scaled.at(0, c), to_float(exps[static_cast<size_t>(c)]) * 0.3F);
      }
      EXPECT_NEAR(sum.total, total, total * 1e-6);
      EXPECT_EQ(exps.back().bits, 0x1234);
      EXPECT_EQ(scaled.damaged(), 0);
    });
  }
}

TEST(Adamw, FollowsTheDefinitionOverManySteps) {
  constexpr size_t kSize = 1000;
  Rows start(1, kSize), gradient(1, kSize);
  start.fill(1);
  const auto first = std::vector<float>(start.matrix().data, start.matrix().data + kSize);
  test::for_each_target([&] {
    test::Threads t(2);
    std::vector<float> p = first, m(kSize), v(kSize), q = first, mq(kSize), vq(kSize);
    for (int64_t step = 1; step <= 20; ++step) {
      gradient.fill(static_cast<uint32_t>(step), -3, 3);
      const AdamwStep s{.lr = 1e-2F, .weight_decay = 0.1F, .gradient_scale = 0.7F, .step = step};
      adamw(t.context, s, kSize, gradient.matrix().data, p.data(), m.data(), v.data());
      adamw_reference(s, kSize, gradient.matrix().data, q.data(), mq.data(), vq.data());
    }
    EXPECT_LE(max_difference(p, q), 2e-6);
    EXPECT_LE(max_difference(m, mq), 2e-6);
    EXPECT_LE(max_difference(v, vq), 2e-6);
  });
}

TEST(Adamw, SumOfSquaresIsTheSameForAnyThreads) {
  std::vector<float> x(200'001);
  std::iota(x.begin(), x.end(), -100'000.0F);
  for (float& f : x) f *= 1e-3F;
  double expected = 0;
  for (const float f : x) expected += static_cast<double>(f) * f;
  test::for_each_target([&] {
    test::Threads one(1), three(3);
    const auto n = static_cast<int64_t>(x.size());
    const double sum = sum_of_squares(one.context, x.data(), n);
    EXPECT_NEAR(sum / expected, 1, 1e-6);
    EXPECT_EQ(sum, sum_of_squares(three.context, x.data(), n));
  });
}

}  // namespace
}  // namespace sepllm
