// Products with operands that are rounded to bf16 (FloatProducts::kBF16), on every instruction set that has
// them, compared with the plain definition in double on operands that the test rounds itself.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/cpu_features.h"
#include "kernels/kernel_test_support.h"
#include "kernels/linear/linear.h"
#include "kernels/linear/linear_backward.h"
#include "kernels/linear/linear_test_support.h"

namespace sepllm {
namespace {

using test::LinearShape;
using test::Rows;

// Around groups of rows, blocks and chunks of inputs, pairs of panels, the rows and inputs of a pass, and
// tasks of few pairs.
constexpr LinearShape kShapes[] = {{33, 1, 1},     {33, 64, 15},  {40, 33, 17},   {47, 300, 40},
                                   {64, 256, 32},  {65, 257, 33}, {530, 172, 33}, {1050, 60, 20},
                                   {4100, 20, 33}, {36, 4200, 5}, {34, 2100, 190}};

void round_values(const Matrix& m) {
  for (int64_t r = 0; r < m.n_rows; ++r) {
    for (int64_t c = 0; c < m.n_cols; ++c) m.row(r)[c] = to_float(to_bf16(m.row(r)[c]));
  }
}

// A random weight of a type, and the same with its values rounded, as f32.
struct RoundedWeight {
  RoundedWeight(DType type, const LinearShape& s, bool transposed)
      : stored(test::random_stored(type, s.n_in * s.n_out, 1)),
        values(static_cast<size_t>(s.n_in * s.n_out)) {
    const int64_t stride = transposed ? s.n_out : s.n_in;
    given = {type, stored.data(), s.n_out, s.n_in, stride, transposed};
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = to_float(to_bf16(load_element(type, stored.data(), static_cast<int64_t>(i))));
    rounded = {DType::kF32, values.data(), s.n_out, s.n_in, stride, transposed};
  }
  std::vector<char> stored;
  std::vector<float> values;
  Weight given, rounded;
};

template <typename Fn>
void for_each_with_products(const Fn& fn) {
  test::for_each_instruction_set([&] {
    if (cpu_has_bf16_products()) fn();
  });
}

class RoundedProducts : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!cpu_has_bf16_products()) GTEST_SKIP() << "this processor has no products of bf16";
    one_.context.float_products = three_.context.float_products = FloatProducts::kBF16;
  }
  test::Threads one_{1}, three_{3};
};

// Sums in f32 of values below 1.
double tolerance(int64_t n) { return 3e-7 * std::sqrt(static_cast<double>(n)) + 1e-6; }

TEST_F(RoundedProducts, AgreeWithTheDefinition) {
  for (const LinearShape& s : kShapes) {
    for (const DType type : test::kAllTypes) {
      for (const bool transposed : {false, true}) {
        SCOPED_TRACE(testing::Message()
                     << s.n_rows << "x" << s.n_in << "x" << s.n_out << dtype_name(type) << transposed);
        const RoundedWeight w(type, s, transposed);
        Rows x(s.n_rows, s.n_in, 5, 1), bias(1, s.n_out), expected(s.n_rows, s.n_out, 7, 2);
        x.fill(2);
        bias.fill(3);
        expected.fill(4);
        const Rows start = expected;
        Rows rounded = x;
        round_values(rounded.matrix());
        linear_reference(rounded.matrix(), w.rounded, bias.matrix().data, expected.matrix(), true);
        for_each_with_products([&] {
          Rows y = start, again = start;
          linear(one_.context, x.matrix(), w.given, bias.matrix().data, y.matrix(), true);
          linear(three_.context, x.matrix(), w.given, bias.matrix().data, again.matrix(), true);
          EXPECT_LE(test::max_difference(y.matrix(), expected.matrix()), tolerance(s.n_in));
          EXPECT_TRUE(y.same_bits(again));
          EXPECT_EQ(y.damaged(), 0);
        });
      }
    }
  }
}

TEST_F(RoundedProducts, OfTheBackwardPassAgreeWithTheDefinition) {
  for (const LinearShape& s : kShapes) {
    for (const bool transposed : {false, true}) {
      SCOPED_TRACE(testing::Message() << s.n_rows << "x" << s.n_in << "x" << s.n_out << transposed);
      const RoundedWeight w(DType::kF32, s, transposed);
      Rows x(s.n_rows, s.n_in, 3), dy(s.n_rows, s.n_out, 1), dx(s.n_rows, s.n_in, 2);
      x.fill(2);
      dy.fill(3);
      dx.fill(4);
      const std::vector<float> start(static_cast<size_t>(s.n_in * s.n_out), 0.25F);
      Rows rounded_x = x, rounded_dy = dy, expected_dx = dx;
      round_values(rounded_x.matrix());
      round_values(rounded_dy.matrix());
      std::vector<float> expected_dw = start;
      linear_backward_reference(rounded_x.matrix(), rounded_dy.matrix(), w.rounded, expected_dx.matrix(),
                                expected_dw.data(), nullptr);
      for_each_with_products([&] {
        std::vector<float> first;
        for (test::Threads* t : {&one_, &three_}) {
          Rows got = dx;
          std::vector<float> got_dw = start;
          linear_backward_input(t->context, dy.matrix(), w.given, got.matrix());
          linear_backward_weight(t->context, x.matrix(), dy.matrix(), w.given, got_dw.data(), nullptr);
          EXPECT_LE(test::max_difference(got.matrix(), expected_dx.matrix()), tolerance(s.n_out));
          for (size_t i = 0; i < got_dw.size(); ++i)
            EXPECT_NEAR(got_dw[i], expected_dw[i], tolerance(s.n_rows)) << i;
          if (first.empty()) first = got_dw;
          EXPECT_EQ(first, got_dw);
        }
      });
    }
  }
}

TEST_F(RoundedProducts, RoundToTheNearestWithTiesToEven) {
  constexpr int64_t kRows = 40;
  const float one_up = 1.0F + 0x1p-7F, tie_down = 1.0F + 0x1p-8F, tie_up = one_up + 0x1p-8F;
  const float values[] = {tie_down, tie_down + 0x1p-20F, tie_up, tie_up - 0x1p-20F, -tie_up, 3.4e38F};
  const float expected[] = {1.0F, one_up, 1.0F + 0x1p-6F, one_up, -1.0F - 0x1p-6F, INFINITY};
  const float unit = 1.0F;
  const Weight w{DType::kF32, &unit, 1, 1, 1, false};
  for_each_with_products([&] {
    Rows x(kRows, 1), y(kRows, 1);
    for (int64_t r = 0; r < kRows; ++r) x.at(r, 0) = values[r % 6];
    linear(one_.context, x.matrix(), w, nullptr, y.matrix());
    for (int64_t r = 0; r < kRows; ++r) EXPECT_EQ(y.at(r, 0), expected[r % 6]) << r;
  });
}

// A value that is no number shows in its own row, and in no other.
TEST_F(RoundedProducts, NumbersThatAreNoneShow) {
  constexpr LinearShape kShape{35, 600, 17};
  const RoundedWeight w(DType::kF32, kShape, false);
  for (const float bad : {NAN, -NAN, std::bit_cast<float>(0x7FFFFFFFU), INFINITY, -INFINITY}) {
    for_each_with_products([&] {
      Rows x(kShape.n_rows, kShape.n_in), y(kShape.n_rows, kShape.n_out);
      x.fill(1);
      x.at(13, 599) = bad;
      linear(one_.context, x.matrix(), w.given, nullptr, y.matrix());
      for (int64_t r = 0; r < kShape.n_rows; ++r) {
        for (int64_t o = 0; o < kShape.n_out; ++o) EXPECT_EQ(std::isfinite(y.at(r, o)), r != 13);
      }
    });
  }
}

// A row's result is the same whatever the other rows are, as long as they are many.
TEST_F(RoundedProducts, DoNotDependOnOtherRows) {
  constexpr LinearShape kShape{300, 700, 70};
  const RoundedWeight w(DType::kF32, kShape, false);
  Rows x(kShape.n_rows, kShape.n_in), all(kShape.n_rows, kShape.n_out), some(kShape.n_rows, kShape.n_out);
  x.fill(1);
  for_each_with_products([&] {
    linear(one_.context, x.matrix(), w.given, nullptr, all.matrix());
    for (int64_t row = 0; row < kShape.n_rows; row += 50)
      linear(one_.context, x.matrix().rows(row, 50), w.given, nullptr, some.matrix().rows(row, 50));
    EXPECT_TRUE(all.same_bits(some));
  });
}

}  // namespace
}  // namespace sepllm
