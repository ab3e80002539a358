#include "kernels/linear/linear.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

#include "kernels/kernel_test_support.h"
#include "kernels/linear/linear_nll.h"
#include "kernels/linear/linear_test_support.h"

namespace sepllm {
namespace {

using test::LinearShape;
using test::Rows;

// Few rows, many rows; below and above a vector, the four streams, and the tiles.
constexpr LinearShape kElementShapes[] = {
    {1, 1, 1},  {1, 5, 3},    {1, 64, 7},      {2, 33, 65},   {3, 129, 258},  {5, 31, 1},   {8, 70, 130},
    {9, 17, 5}, {16, 64, 64}, {13, 1030, 131}, {33, 2050, 9}, {513, 40, 260}, {49, 31, 33}, {64, 160, 560}};

Weight weight(DType type, const void* data, const LinearShape& s, bool transposed, int64_t gap) {
  return {type, data, s.n_out, s.n_in, (transposed ? s.n_out : s.n_in) + gap, transposed};
}

void check_elements(const LinearShape& s, DType type, bool transposed, bool with_bias, bool accumulate) {
  SCOPED_TRACE(testing::Message() << s.n_rows << "x" << s.n_in << "x" << s.n_out << " " << dtype_name(type)
                                  << (transposed ? " transposed" : "") << (with_bias ? " bias" : "")
                                  << (accumulate ? " accumulate" : ""));
  constexpr int64_t kGap = 3;
  const auto stored = test::random_stored(type, (s.n_in + kGap) * (s.n_out + kGap), 1);
  const Weight w = weight(type, stored.data(), s, transposed, kGap);
  Rows x(s.n_rows, s.n_in, 5, 1), bias(1, s.n_out, 0, 3), expected(s.n_rows, s.n_out, 7, 2);
  x.fill(2);
  bias.fill(3);
  expected.fill(4);
  const Rows start = expected;
  const float* b = with_bias ? bias.matrix().data : nullptr;
  linear_reference(x.matrix(), w, b, expected.matrix(), accumulate);
  test::for_each_instruction_set([&] {
    Rows one = start, three = start;
    test::Threads single(1), several(3);
    linear(single.context, x.matrix(), w, b, one.matrix(), accumulate);
    linear(several.context, x.matrix(), w, b, three.matrix(), accumulate);
    EXPECT_LE(test::max_difference(one.matrix(), expected.matrix()), 2e-6 * std::sqrt(s.n_in) + 1e-6);
    EXPECT_EQ(one.damaged(), 0);
    EXPECT_TRUE(one.same_bits(three));
  });
}

TEST(Linear, AgreesWithTheDefinition) {
  for (const LinearShape& s : kElementShapes) {
    for (const DType type : test::kAllTypes) {
      for (const bool transposed : {false, true}) {
        check_elements(s, type, transposed, false, false);
        check_elements(s, type, transposed, true, false);
        check_elements(s, type, transposed, true, true);
        check_elements(s, type, transposed, false, true);
      }
    }
  }
}

TEST(Linear, AFewRowsGiveTheBitsOfOneRow) {
  const LinearShape s{7, 200, 50};
  const auto stored = test::random_stored(DType::kBF16, s.n_in * s.n_out, 1);
  test::Threads t(2);
  for (const bool transposed : {false, true}) {
    const Weight w = weight(DType::kBF16, stored.data(), s, transposed, 0);
    Rows x(s.n_rows, s.n_in), together(s.n_rows, s.n_out), alone(s.n_rows, s.n_out);
    x.fill(9);
    linear(t.context, x.matrix(), w, nullptr, together.matrix());
    for (int64_t r = 0; r < s.n_rows; ++r) {
      linear(t.context, x.matrix().rows(r, 1), w, nullptr, alone.matrix().rows(r, 1));
    }
    EXPECT_TRUE(together.same_bits(alone));
  }
}

TEST(Linear, OverwritesWhateverTheOutputHeld) {
  const LinearShape s{12, 40, 24};
  const auto stored = test::random_stored(DType::kF32, s.n_in * s.n_out, 1);
  const Weight w = weight(DType::kF32, stored.data(), s, false, 0);
  test::Threads t(1);
  for (const int64_t n_rows : {int64_t{2}, s.n_rows}) {
    Rows x(n_rows, s.n_in), y(n_rows, s.n_out);
    x.fill(1);
    for (int64_t r = 0; r < n_rows; ++r) std::fill_n(y.matrix().row(r), s.n_out, NAN);
    linear(t.context, x.matrix(), w, nullptr, y.matrix());
    for (int64_t r = 0; r < n_rows; ++r) {
      for (int64_t o = 0; o < s.n_out; ++o) EXPECT_TRUE(std::isfinite(y.at(r, o)));
    }
  }
}

// BLAS is called from several threads at once: of one pool, and of several pools.
TEST(Linear, TwoPoolsAtOnce) {
  const LinearShape s{96, 300, 400};
  const auto stored = test::random_stored(DType::kF32, s.n_in * s.n_out, 1);
  const Weight w = weight(DType::kF32, stored.data(), s, false, 0);
  Rows x(s.n_rows, s.n_in), expected(s.n_rows, s.n_out);
  x.fill(1);
  test::Threads t(1);
  linear(t.context, x.matrix(), w, nullptr, expected.matrix());
  std::vector<int> wrong(2, 0);
  std::vector<std::thread> threads;
  for (int k = 0; k < 2; ++k) {
    threads.emplace_back([&, k] {
      test::Threads mine(2);
      for (int n = 0; n < 50; ++n) {
        Rows y(s.n_rows, s.n_out);
        linear(mine.context, x.matrix(), w, nullptr, y.matrix());
        wrong[static_cast<size_t>(k)] += y.same_bits(expected) ? 0 : 1;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong[0] + wrong[1], 0);
}

TEST(Linear, NoRowsIsNothing) {
  const auto stored = test::random_stored(DType::kF32, 6, 1);
  test::Threads t(1);
  const Rows x(0, 3), y(0, 2);
  linear(t.context, x.matrix(), {DType::kF32, stored.data(), 2, 3, 3, false}, nullptr, y.matrix());
  EXPECT_EQ(y.damaged(), 0);
}

// The losses of a head against the definition. Few and many rows; below and above a tile and a task of
// outputs.
TEST(Linear, LossesOfRowsAgreeWithTheDefinition) {
  for (const LinearShape& s :
       {LinearShape{1, 5, 1}, {7, 33, 300}, {33, 9, 1}, {40, 33, 257}, {33, 130, 2300}, {600, 20, 1100}}) {
    for (const DType type : test::kAllTypes) {
      for (const bool transposed : {false, true}) {
        SCOPED_TRACE(testing::Message()
                     << s.n_rows << "x" << s.n_in << "x" << s.n_out << " " << dtype_name(type));
        const auto stored = test::random_stored(type, (s.n_in + 3) * (s.n_out + 3), 1);
        const Weight w = weight(type, stored.data(), s, transposed, 3);
        Rows x(s.n_rows, s.n_in, 5, 1), bias(1, s.n_out, 0, 3), logits(s.n_rows, s.n_out);
        x.fill(2, -3, 3);
        bias.fill(3, 300, 302);  // the maximum must be subtracted
        linear_reference(x.matrix(), w, bias.matrix().data, logits.matrix(), false);
        std::vector<int32_t> targets;
        std::vector<double> expected;
        for (int64_t r = 0; r < s.n_rows; ++r) {
          targets.push_back(static_cast<int32_t>(r * 7919 % s.n_out));
          double sum = 0;
          for (int64_t o = 0; o < s.n_out; ++o) sum += std::exp(logits.at(r, o) - 300.0);
          expected.push_back(std::log(sum) + 300 - logits.at(r, targets.back()));
        }
        test::for_each_instruction_set([&] {
          std::vector<double> one(targets.size()), three(targets.size());
          test::Threads single(1), several(3);
          linear_nll(single.context, x.matrix(), w, bias.matrix().data, targets, one.data());
          linear_nll(several.context, x.matrix(), w, bias.matrix().data, targets, three.data());
          EXPECT_EQ(one, three);
          for (size_t r = 0; r < targets.size(); ++r) EXPECT_NEAR(one[r], expected[r], 2e-4);
        });
      }
    }
  }
}

TEST(Linear, LossesThatAreNoNumbersShow) {
  constexpr LinearShape kShape{40, 8, 600};
  const auto stored = test::random_stored(DType::kF32, kShape.n_in * kShape.n_out, 1);
  const Weight w = weight(DType::kF32, stored.data(), kShape, false, 0);
  const std::vector<int32_t> targets(40, 3);
  for (const float bad : {NAN, INFINITY}) {
    Rows x(40, 8);
    x.fill(1);
    x.at(13, 7) = bad;
    test::for_each_instruction_set([&] {
      test::Threads t(1);
      std::vector<double> nll(40);
      linear_nll(t.context, x.matrix(), w, nullptr, targets, nll.data());
      for (size_t r = 0; r < 40; ++r) EXPECT_EQ(std::isfinite(nll[r]), r != 13) << nll[r];
    });
  }
}

}  // namespace
}  // namespace sepllm
