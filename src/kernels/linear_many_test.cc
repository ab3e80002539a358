// Products of many rows with 8- and 4-bit weights, on every instruction set.
#include "kernels/linear_many.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/block_matrix.h"
#include "kernels/blocks.h"
#include "kernels/elementwise.h"
#include "kernels/kernel_test_support.h"
#include "kernels/linear.h"
#include "kernels/linear_nll.h"
#include "kernels/panels.h"

namespace sepllm {
namespace {

using test::BlockMatrix;
using test::Rows;

constexpr DType kBlockTypes[] = {DType::kQ8_0, DType::kQ4_0};

struct Shape {
  int64_t n_rows, n_in, n_out;
};
// Around the fewest that are many, tiles of rows, chunks of inputs and pairs of panels; the last two: several
// blocks of rows.
constexpr Shape kShapes[] = {{17, 172, 40},   {25, 33, 17},  {33, 1, 1},     {33, 64, 15},
                             {36, 33, 17},    {47, 172, 40}, {64, 512, 33},  {33, 545, 5},
                             {47, 2050, 130}, {513, 64, 40}, {530, 172, 33}, {190, 5600, 17}};

void check(const Shape& s, DType type, bool with_bias, bool accumulate) {
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
  for (const Shape& s : kShapes) {
    for (const DType type : kBlockTypes) {
      check(s, type, false, false);
      check(s, type, true, true);
    }
  }
  check(kShapes[5], DType::kQ8_0, true, false);
  check(kShapes[5], DType::kQ4_0, false, true);
}

TEST(LinearManyRows, ExactProductsAgreeWithDoubles) {
  for (const Shape& s : {Shape{33, 1, 1}, Shape{47, 172, 40}, Shape{64, 33, 17}, Shape{40, 2050, 130}}) {
    for (const DType type : kBlockTypes) {
      const BlockMatrix w(type, s.n_out, s.n_in, 1);
      Rows x(s.n_rows, s.n_in, 5, 1), bias(1, s.n_out), expected(s.n_rows, s.n_out, 7, 2);
      x.fill(2);
      bias.fill(3);
      expected.fill(4);
      const Rows start = expected;
      linear_reference(x.matrix(), w.weight, bias.matrix().data, expected.matrix(), true);
      test::for_each_target([&] {
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

// Prefill and decoding of the same token give the same bits, whatever rows are beside it.
TEST(LinearManyRows, OfBlocksGiveTheBitsOfOneRow) {
  for (const DType type : kBlockTypes) {
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
  for (const DType type : kBlockTypes) {
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
  for (const DType type : kBlockTypes) {
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
  for (const DType type : kBlockTypes) {
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
