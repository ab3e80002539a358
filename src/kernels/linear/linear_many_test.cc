// Products of many rows with 8- and 4-bit weights, on every instruction set.
#include "kernels/linear/linear_many.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include "kernels/formats/block_matrix_test_support.h"
#include "kernels/formats/blocks.h"
#include "kernels/formats/panels.h"
#include "kernels/kernel_test_support.h"
#include "kernels/linear/linear.h"
#include "kernels/linear/linear_nll.h"
#include "kernels/linear/linear_test_support.h"
#include "kernels/rowwise/elementwise.h"
#include "tests/support/weight_types.h"

namespace sepllm {
namespace {

using test::BlockMatrix;
using test::LinearShape;
using test::Rows;

// Around the fewest that are many, tiles of rows, chunks of inputs and pairs of panels; the last two: several
// blocks of rows.
constexpr LinearShape kManyShapes[] = {{17, 172, 40},   {25, 33, 17},  {33, 1, 1},     {33, 64, 15},
                                       {36, 33, 17},    {47, 172, 40}, {64, 512, 33},  {33, 545, 5},
                                       {47, 2050, 130}, {513, 64, 40}, {530, 172, 33}, {190, 5600, 17}};

void check_many(const LinearShape& s, DType type, bool with_bias, bool accumulate) {
  SCOPED_TRACE(testing::Message() << s.n_rows << "x" << s.n_in << "x" << s.n_out << " " << dtype_name(type)
                                  << (with_bias ? " bias" : "") << (accumulate ? " accumulate" : ""));
  const BlockMatrix w(type, s.n_out, s.n_in, 1);
  Rows x(s.n_rows, s.n_in, 5, 1), bias(1, s.n_out, 0, 3), expected(s.n_rows, s.n_out, 7, 2);
  x.fill(2);
  bias.fill(3);
  expected.fill(4);
  const Rows start = expected;
  const float* b = with_bias ? bias.matrix().data : nullptr;
  test::Threads single(1), several(3);
  linear_blocks_reference(single.context, x.matrix(), w.weight, b, expected.matrix(), accumulate);
  test::for_each_instruction_set([&] {
    Rows one = start, three = start;
    linear(single.context, x.matrix(), w.weight, b, one.matrix(), accumulate);
    linear(several.context, x.matrix(), w.weight, b, three.matrix(), accumulate);
    EXPECT_TRUE(one.same_bits(expected));  // gaps between the rows included
    EXPECT_TRUE(three.same_bits(expected));
  });
}

TEST(LinearManyRows, OfBlocksAgreeWithTheDefinition) {
  for (const LinearShape& s : kManyShapes) {
    for (const DType type : kPanelTypes) {
      check_many(s, type, false, false);
      check_many(s, type, true, true);
    }
  }
  for (const DType type : kPanelTypes) {
    check_many(kManyShapes[5], type, true, false);
    check_many(kManyShapes[5], type, false, true);
  }
}

TEST(LinearManyRows, ExactProductsAgreeWithDoubles) {
  for (const LinearShape& s : {LinearShape{33, 1, 1}, LinearShape{47, 172, 40}, LinearShape{64, 33, 17},
                               LinearShape{40, 2050, 130}, LinearShape{530, 172, 33}}) {
    for (const DType type : kPanelTypes) {
      const BlockMatrix w(type, s.n_out, s.n_in, 1);
      Rows x(s.n_rows, s.n_in, 5, 1), bias(1, s.n_out), expected(s.n_rows, s.n_out, 7, 2);
      x.fill(2);
      bias.fill(3);
      expected.fill(4);
      const Rows start = expected;
      linear_reference(x.matrix(), w.weight, bias.matrix().data, expected.matrix(), true);
      test::for_each_instruction_set([&] {
        test::Threads t(2);
        t.context.block_products = BlockProducts::kExact;
        Rows y = start;
        linear(t.context, x.matrix(), w.weight, bias.matrix().data, y.matrix(), true);
        EXPECT_LE(test::max_difference(y.matrix(), expected.matrix()), 1e-6 * std::sqrt(s.n_in) + 1e-6);
        EXPECT_EQ(y.damaged(), 0);
      });
    }
  }
}

// A random matrix of any type.
struct AnyMatrix {
  AnyMatrix(DType type, int64_t n_out, int64_t n_in, uint32_t seed)
      : blocks(is_block_type(type) ? type : kBlockTypes[0], n_out, n_in, seed),
        stored(is_block_type(type) ? std::vector<char>() : test::random_stored(type, n_out * n_in, seed)),
        weight(is_block_type(type) ? blocks.weight : Weight{type, stored.data(), n_out, n_in, n_in, false}) {}
  BlockMatrix blocks;
  std::vector<char> stored;
  Weight weight;
};

// Values of all magnitudes next to each other, and sums that cancel except for a small rest: errors stay at
// f32's share of sum |x w|.
TEST(LinearManyRows, OfFloatsKeepTheirPrecisionOverARangeOfMagnitudes) {
  constexpr int64_t kRows = 515, kIn = 300, kOut = 40;
  for (const DType type : test::weight_types()) {
    const AnyMatrix w(type, kOut, kIn, 1);
    Rows x(kRows, kIn), expected(kRows, kOut), sizes(kRows, kOut), w_sizes(kOut, kIn), x_sizes(kRows, kIn);
    x.fill(2);
    std::mt19937 rng(3);
    for (int64_t r = 0; r < kRows; ++r) {
      // The smallest: denormals, and numbers whose lower parts are.
      const int range = static_cast<int>(r % 5) * 34;
      for (int64_t i = 0; i < kIn; ++i) {
        if (range > 0)
          x.at(r, i) = std::ldexp(x.at(r, i), -static_cast<int>(rng() % static_cast<unsigned>(range)));
        if (r % 2 == 1 && i % 2 == 1) x.at(r, i) = -x.at(r, i - 1) * (1 + 1e-6F);
      }
    }
    linear_reference(x.matrix(), w.weight, nullptr, expected.matrix());
    for (int64_t r = 0; r < kRows; ++r) {
      for (int64_t i = 0; i < kIn; ++i) x_sizes.at(r, i) = std::abs(x.at(r, i));
    }
    for (int64_t o = 0; o < kOut; ++o) {
      std::vector<float> row(kIn);
      if (is_block_type(type)) {
        panel_row_to_f32(w.weight, o, 0, kIn, row.data());
      } else {
        for (int64_t i = 0; i < kIn; ++i)
          row[static_cast<size_t>(i)] = load_element(type, w.weight.data, o * kIn + i);
      }
      for (int64_t i = 0; i < kIn; ++i) w_sizes.at(o, i) = std::abs(row[static_cast<size_t>(i)]);
    }
    linear_reference(x_sizes.matrix(), {DType::kF32, w_sizes.matrix().data, kOut, kIn, kIn, false}, nullptr,
                     sizes.matrix());
    test::for_each_instruction_set([&] {
      test::Threads t(2);
      t.context.block_products = BlockProducts::kExact;
      Rows y(kRows, kOut);
      linear(t.context, x.matrix(), w.weight, nullptr, y.matrix());
      double worst = 0;
      for (int64_t r = 0; r < kRows; ++r) {
        for (int64_t o = 0; o < kOut; ++o) {
          worst =
              std::max(worst, std::abs(static_cast<double>(y.at(r, o)) - expected.at(r, o)) / sizes.at(r, o));
        }
      }
      EXPECT_LE(worst, 8e-7) << dtype_name(type);
    });
  }
}

// Rows that tiles of bf16 cannot make: infinite, NaN, close to the largest and to the smallest floats.
TEST(LinearManyRows, OfFloatsAreRightAtTheEndsOfTheRange) {
  constexpr int64_t kRows = 515, kIn = 170, kOut = 33;
  for (const DType type : test::weight_types()) {
    const AnyMatrix w(type, kOut, kIn, 1);
    test::for_each_instruction_set([&] {
      test::Threads t(2);
      t.context.block_products = BlockProducts::kExact;
      for (const bool accumulate : {false, true}) {
        Rows x(kRows, kIn), y(kRows, kOut, 3);
        x.fill(5);
        y.fill(2);
        Rows expected_rows = y;
        x.at(3, 169) = NAN;
        x.at(5, 0) = INFINITY;
        x.at(20, 7) = -INFINITY;
        x.at(21, 7) = 1e38F;
        x.at(22, 7) = -1e36F;
        for (int64_t i = 0; i < kIn; ++i) {
          x.at(33, i) *= 1e-36F;
          x.at(34, i) *= 1e-42F;
          x.at(35, i) = 0;
        }
        linear(t.context, x.matrix(), w.weight, nullptr, y.matrix(), accumulate);
        EXPECT_EQ(y.damaged(), 0);
        linear_reference(x.matrix(), w.weight, nullptr, expected_rows.matrix(), accumulate);
        for (int64_t r = 0; r < kRows; ++r) {
          for (int64_t o = 0; o < kOut; ++o) {
            const float expected = expected_rows.at(r, o), got = y.at(r, o);
            EXPECT_EQ(std::isnan(got), std::isnan(expected));
            if (std::isnan(expected)) continue;
            if (std::isinf(expected)) {
              EXPECT_EQ(got, expected);
              continue;
            }
            const float size = r == 21                          ? 1e38F
                               : r == 22                        ? 1e36F
                               : accumulate || r < 33 || r > 35 ? 10.0F
                                                                : 0.0F;
            // Of the smallest floats, 36 units.
            EXPECT_NEAR(got, expected, 1e-6F * size + (r == 33 ? 1e-40F : 5e-44F))
                << dtype_name(type) << " row " << r;
          }
        }
      }
    });
  }
}

// Computed by tiles of bf16, a row's result is the same whatever the other rows are.
TEST(LinearManyRows, OfFloatsByTilesDoNotDependOnOtherRows) {
  if ((cpu_features() & kAmxBf16) == 0) GTEST_SKIP() << "this machine has no tiles of bf16";
  constexpr int64_t kIn = 300, kOut = 70;
  for (const DType type : test::weight_types()) {
    if (type == DType::kF32 || type == DType::kF16) continue;
    const AnyMatrix w(type, kOut, kIn, 1);
    test::Threads t(2);
    t.context.block_products = BlockProducts::kExact;
    Rows x(600, kIn), all(600, kOut), some(600, kOut);
    x.fill(1);
    linear(t.context, x.matrix(), w.weight, nullptr, all.matrix());
    for (int64_t row = 0, n = 33; row < 600; row += n, n += 41) {
      n = std::min(n, 600 - row);
      if (n <= kFewRows) {
        std::copy_n(all.matrix().row(row), n * kOut, some.matrix().row(row));
        continue;
      }
      linear(t.context, x.matrix().rows(row, n), w.weight, nullptr, some.matrix().rows(row, n));
    }
    EXPECT_TRUE(all.same_bits(some)) << dtype_name(type);
  }
}

// Sums that are as large as they can be fit their 16 or 32 bits on every instruction set.
TEST(LinearManyRows, OfExtremeValuesAreExactSums) {
  constexpr int64_t kRowsMany = 40, kIn = 512, kOut = 40;
  for (const DType type : kPanelTypes) {
    const BlockMatrix w(type, kOut, kIn, 1, true);
    Rows x(kRowsMany, kIn), expected(kRowsMany, kOut), few(2, kOut), many(kRowsMany, kOut);
    for (int64_t r = 0; r < kRowsMany; ++r) {
      for (int64_t i = 0; i < kIn; ++i) x.at(r, i) = (i / 32 + r) % 3 == 0 ? -0.7F : 0.7F;
    }
    test::Threads t(1);
    linear_blocks_reference(t.context, x.matrix(), w.weight, nullptr, expected.matrix());
    test::for_each_instruction_set([&] {
      linear(t.context, x.matrix(), w.weight, nullptr, many.matrix());
      EXPECT_TRUE(many.same_bits(expected)) << dtype_name(type);
      linear(t.context, x.matrix().rows(0, 2), w.weight, nullptr, few.matrix());
      for (int64_t o = 0; o < 2 * kOut; ++o)
        EXPECT_EQ(few.at(o / kOut, o % kOut), expected.at(o / kOut, o % kOut));
    });
  }
}

// Prefill and decoding of the same token give the same bits, whatever the other rows are.
TEST(LinearManyRows, OfBlocksGiveTheBitsOfOneRow) {
  for (const DType type : kPanelTypes) {
    const BlockMatrix w(type, 50, 1100, 1);
    Rows x(40, 1100), together(40, 50), alone(40, 50);
    x.fill(9);
    test::for_each_instruction_set([&] {
      test::Threads t(2);
      linear(t.context, x.matrix(), w.weight, nullptr, together.matrix());
      for (int64_t r = 0; r < 40; ++r)
        linear(t.context, x.matrix().rows(r, 1), w.weight, nullptr, alone.matrix().rows(r, 1));
      EXPECT_TRUE(together.same_bits(alone));
    });
  }
}

TEST(LinearManyRows, NumbersThatAreNoneShow) {
  for (const DType type : kPanelTypes) {
    const BlockMatrix w(type, 17, 600, 1);
    for (const float bad : {NAN, INFINITY, -INFINITY}) {
      test::for_each_instruction_set([&] {
        test::Threads t(1);
        Rows x(35, 600), y(35, 17);
        x.fill(1);
        x.at(13, 599) = bad;
        linear(t.context, x.matrix(), w.weight, nullptr, y.matrix());
        for (int64_t r = 0; r < 35; ++r) {
          for (int64_t o = 0; o < 17; ++o) EXPECT_EQ(std::isfinite(y.at(r, o)), r != 13);
        }
      });
    }
  }
}

TEST(Panels, AsFloatsAreTheStoredValues) {
  for (const DType type : kPanelTypes) {
    const BlockMatrix w(type, 16, 172, 1);
    test::for_each_target([&] {
      for (const int64_t first : {0, 64, 128}) {
        const int64_t n = 172 - first;
        Rows tile(n, 16, 3);
        panel_to_f32(type, static_cast<const char*>(w.weight.data), first, n, tile.matrix().data,
                     tile.matrix().stride);
        for (int64_t o = 0; o < 16; ++o) {
          std::vector<float> expected(static_cast<size_t>(n));
          panel_row_to_f32(w.weight, o, first, n, expected.data());
          for (int64_t i = 0; i < n; ++i) EXPECT_EQ(tile.at(i, o), expected[static_cast<size_t>(i)]);
        }
        EXPECT_EQ(tile.damaged(), 0);
      }
    });
  }
}

// The losses of a head are those of its logits. Below, at and above a part of the outputs.
TEST(LinearManyRows, LossesAreThoseOfTheLogits) {
  for (const DType type : kPanelTypes) {
    for (const int64_t n_out : {17, 2048, 2100, 4100}) {
      constexpr int64_t kRows = 40, kIn = 70;
      const BlockMatrix w(type, n_out, kIn, 1);
      Rows x(kRows, kIn), bias(1, n_out), logits(kRows, n_out);
      x.fill(1);
      bias.fill(2);
      std::vector<int32_t> targets;
      for (int64_t r = 0; r < kRows; ++r) targets.push_back(static_cast<int32_t>(r * 7919 % n_out));
      test::for_each_instruction_set([&] {
        test::Threads one(1), three(3);
        std::vector<double> expected(kRows), nll(kRows), again(kRows);
        linear(one.context, x.matrix(), w.weight, bias.matrix().data, logits.matrix());
        nll_rows(one.context, logits.matrix(), targets, expected.data());
        linear_nll(one.context, x.matrix(), w.weight, bias.matrix().data, targets, nll.data());
        linear_nll(three.context, x.matrix(), w.weight, bias.matrix().data, targets, again.data());
        EXPECT_EQ(nll, again);
        for (size_t r = 0; r < kRows; ++r)
          EXPECT_NEAR(nll[r], expected[r], 1e-5) << dtype_name(type) << n_out;
      });
    }
  }
}

}  // namespace
}  // namespace sepllm
