// Products of few rows with weights of 4 to 8 bits, on every instruction set.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels/formats/block_matrix_test_support.h"
#include "kernels/formats/panels.h"
#include "kernels/formats/quantized_rows.h"
#include "kernels/formats/rows.h"
#include "kernels/kernel_test_support.h"
#include "kernels/linear/linear.h"
#include "kernels/linear/linear_test_support.h"
#include "kernels/rowwise/elementwise.h"

namespace sepllm {
namespace {

using test::BlockMatrix;
using test::LinearShape;
using test::Rows;

constexpr LinearShape kBlockShapes[] = {{1, 1, 1},      {1, 33, 15},  {2, 64, 17},   {3, 172, 40},
                                        {1, 2050, 130}, {8, 172, 70}, {15, 65, 130}, {32, 96, 33},
                                        {31, 2050, 40}, {1, 5632, 16}};

void check_blocks(const LinearShape& s, DType type, bool with_bias, bool accumulate) {
  SCOPED_TRACE(testing::Message() << s.n_rows << "x" << s.n_in << "x" << s.n_out << " " << dtype_name(type)
                                  << (with_bias ? " bias" : "") << (accumulate ? " accumulate" : ""));
  const BlockMatrix w(type, s.n_out, s.n_in, 1);
  Rows x(s.n_rows, s.n_in, 5, 1), bias(1, s.n_out, 0, 3), integer(s.n_rows, s.n_out, 7, 2);
  x.fill(2);
  bias.fill(3);
  integer.fill(4);
  Rows exact = integer;
  const Rows start = integer;
  const float* b = with_bias ? bias.matrix().data : nullptr;
  test::Threads single(1), several(3);
  Context exact_context = several.context;
  exact_context.block_products = BlockProducts::kExact;
  linear_blocks_reference(single.context, x.matrix(), w.weight, b, integer.matrix(), accumulate);
  linear_reference(x.matrix(), w.weight, b, exact.matrix(), accumulate);
  test::for_each_instruction_set([&] {
    Rows one = start, three = start, converted = start;
    linear(single.context, x.matrix(), w.weight, b, one.matrix(), accumulate);
    linear(several.context, x.matrix(), w.weight, b, three.matrix(), accumulate);
    EXPECT_TRUE(one.same_bits(integer));
    EXPECT_TRUE(three.same_bits(integer));
    linear(exact_context, x.matrix(), w.weight, b, converted.matrix(), accumulate);
    EXPECT_LE(test::max_difference(converted.matrix(), exact.matrix()), 1e-6 * std::sqrt(s.n_in) + 1e-6);
    EXPECT_EQ(converted.damaged(), 0);
  });
}

TEST(LinearBlocks, AgreeWithTheDefinition) {
  for (const LinearShape& s : kBlockShapes) {
    for (const DType type : kPanelTypes) {
      check_blocks(s, type, false, false);
      check_blocks(s, type, true, false);
      check_blocks(s, type, true, true);
      check_blocks(s, type, false, true);
    }
  }
}

// The reference itself, against doubles: what is left is the rounding of activations to 8 bits.
TEST(LinearBlocks, TheDefinitionIsTheProduct) {
  for (const DType type : kPanelTypes) {
    const BlockMatrix w(type, 40, 172, 1);
    Rows x(3, 172), rounded(3, 40), exact(3, 40);
    x.fill(2);
    test::Threads t(1);
    linear_blocks_reference(t.context, x.matrix(), w.weight, nullptr, rounded.matrix());
    linear_reference(x.matrix(), w.weight, nullptr, exact.matrix());
    double error = 0, size = 0;
    for (int64_t r = 0; r < 3; ++r) {
      for (int64_t o = 0; o < 40; ++o) {
        error += std::pow(rounded.at(r, o) - exact.at(r, o), 2);
        size += std::pow(exact.at(r, o), 2);
      }
    }
    EXPECT_GT(error, 0.0);
    EXPECT_LT(std::sqrt(error / size), 5e-3);
  }
}

TEST(LinearBlocks, AFewRowsGiveTheBitsOfOneRow) {
  for (const DType type : kPanelTypes) {
    const BlockMatrix w(type, 50, 200, 1);
    Rows x(31, 200), together(31, 50), alone(31, 50);
    x.fill(9);
    test::for_each_instruction_set([&] {
      for (const BlockProducts products : {BlockProducts::kInteger, BlockProducts::kExact}) {
        test::Threads t(2);
        t.context.block_products = products;
        linear(t.context, x.matrix(), w.weight, nullptr, together.matrix());
        for (int64_t r = 0; r < 31; ++r) {
          linear(t.context, x.matrix().rows(r, 1), w.weight, nullptr, alone.matrix().rows(r, 1));
        }
        EXPECT_TRUE(together.same_bits(alone));
      }
    });
  }
}

// Where tiles take over depends on the type and on the processor, and a tile has parts that depend on its
// rows.
TEST(LinearBlocks, AnyNumberOfRowsGivesTheBitsOfTheDefinition) {
  constexpr int64_t kMost = 26, kIn = 600, kOut = 40;  // more than a chunk of inputs, and three panels
  for (const DType type : kPanelTypes) {
    const BlockMatrix w(type, kOut, kIn, 1);
    Rows x(kMost, kIn), expected(kMost, kOut);
    x.fill(7);
    test::Threads t(2);
    linear_blocks_reference(t.context, x.matrix(), w.weight, nullptr, expected.matrix());
    test::for_each_instruction_set([&] {
      for (int64_t n = 1; n <= kMost; ++n) {
        Rows y = expected;  // rows from n on stay
        for (int64_t r = 0; r < n; ++r) std::fill_n(y.matrix().row(r), kOut, -1.0F);
        linear(t.context, x.matrix().rows(0, n), w.weight, nullptr, y.matrix().rows(0, n));
        EXPECT_TRUE(y.same_bits(expected)) << dtype_name(type) << ", " << n << " rows";
      }
    });
  }
}

TEST(LinearBlocks, NumbersThatAreNoneShow) {
  for (const DType type : kPanelTypes) {
    const BlockMatrix w(type, 17, 100, 1);
    for (const float bad : {NAN, INFINITY, -INFINITY}) {
      test::for_each_instruction_set([&] {
        for (const BlockProducts products : {BlockProducts::kInteger, BlockProducts::kExact}) {
          test::Threads t(1);
          t.context.block_products = products;
          Rows x(3, 100), y(3, 17);
          x.fill(1);
          x.at(1, 99) = bad;
          linear(t.context, x.matrix(), w.weight, nullptr, y.matrix());
          for (int64_t o = 0; o < 17; ++o) {
            EXPECT_TRUE(std::isfinite(y.at(0, o)) && std::isfinite(y.at(2, o)));
            EXPECT_FALSE(std::isfinite(y.at(1, o)));
          }
        }
      });
    }
  }
}

// Parts of every type next to each other give what each part gives by itself.
TEST(LinearParts, MayMixTypesAndWidths) {
  constexpr int64_t kIn = 172;
  const BlockMatrix q8(DType::kQ8_0, 130, kIn, 1), q4(DType::kQ4_0, 40, kIn, 2),
      more(DType::kQ4_0, 1, kIn, 3), k4(DType::kQ4_K, 33, kIn, 6), k6(DType::kQ6_K, 20, kIn, 7),
      k5(DType::kQ5_K, 17, kIn, 8);
  const auto f16s = test::random_stored(DType::kF16, 300 * kIn, 4);
  const auto columns = test::random_stored(DType::kBF16, 70 * kIn, 5);
  const Weight weights[] = {q8.weight,   {DType::kF16, f16s.data(), 300, kIn, kIn, false},
                            q4.weight,   {DType::kBF16, columns.data(), 70, kIn, 70, true},
                            more.weight, k4.weight,
                            k6.weight,   k5.weight};
  constexpr int kParts = 8;
  constexpr int64_t kWidth = 130 + 300 + 40 + 70 + 1 + 33 + 20 + 17;
  Rows bias(1, kWidth);
  bias.fill(7);
  test::for_each_instruction_set([&] {
    for (const int64_t n_rows : {1, 5, 9, 32, 40}) {
      for (const BlockProducts products : {BlockProducts::kInteger, BlockProducts::kExact}) {
        test::Threads t(3);
        t.context.block_products = products;
        Rows x(n_rows, kIn, 1), together(n_rows, kWidth, 3);
        x.fill(8);
        together.fill(9);
        Rows alone = together;
        LinearPart parts[kParts];
        int64_t column = 0;
        for (int k = 0; k < kParts; ++k) {
          const Weight& w = weights[k];
          parts[k] = {&w, k % 2 == 0 ? bias.matrix().data + column : nullptr,
                      together.matrix().columns(column, w.n_out), k == 2};
          linear(t.context, x.matrix(), w, parts[k].bias, alone.matrix().columns(column, w.n_out),
                 parts[k].accumulate);
          column += w.n_out;
        }
        linear(t.context, x.matrix(), parts);
        EXPECT_TRUE(together.same_bits(alone)) << n_rows;
        EXPECT_EQ(together.damaged(), 0);
      }
    }
  });
}

TEST(QuantizedRows, AreRoundedByTheirDefinition) {
  constexpr int64_t kIn = 172;
  Rows x(4, kIn, 3, 1);
  x.fill(1);
  for (int64_t i = 0; i < kIn; ++i) x.at(1, i) *= 1e-33F;  // too small to divide by
  x.at(2, 5) = NAN;
  x.at(2, 171) = -INFINITY;
  for (int64_t i = 0; i < 32; ++i)
    x.at(3, i) = static_cast<float>(i % 2 == 0 ? 127 : i) + 0.5F * (i % 2);  // ties
  test::for_each_target([&] {
    test::Threads t(2);
    const Arena::Scope scope(t.arena);
    const QuantizedRows q = quantize_rows(t.context, x.matrix(), rows_form(DType::kQ4_0));
    ASSERT_EQ(q.n_blocks, 6);
    for (int64_t r = 0; r < 4; ++r) {
      for (int64_t b = 0; b < 6; ++b) {
        int8_t expected[32] = {};
        const int64_t n = std::min<int64_t>(32, kIn - b * 32);
        const float scale = quantize_row(x.matrix().row(r) + b * 32, n, expected);
        int32_t sum = 0;
        for (int64_t k = 0; k < 32; ++k) {
          EXPECT_EQ(q.values[(r * 6 + b) * 32 + k], expected[k]);
          sum += expected[k];
        }
        EXPECT_EQ(q.starts[r * 6 + b], -8 * sum);
        if (std::isnan(scale)) {
          EXPECT_TRUE(std::isnan(q.scales[r * 6 + b]));
        } else {
          EXPECT_EQ(q.scales[r * 6 + b], scale);
        }
      }
    }
    EXPECT_TRUE(std::isnan(q.scales[2 * 6]) && std::isnan(q.scales[2 * 6 + 5]) && q.scales[6] == 0.0F);
  });
}

// What weights with minima, or with scales of half groups, need of the same rows.
TEST(QuantizedRows, HaveTheSumsThatFormsNeed) {
  constexpr int64_t kIn = 300;  // filled up to 8 or 16 groups
  Rows x(3, kIn);
  x.fill(1);
  x.at(1, 70) = NAN;
  test::for_each_target([&] {
    test::Threads t(2);
    const Arena::Scope scope(t.arena);
    const QuantizedRows minima = quantize_rows(t.context, x.matrix(), rows_form(DType::kQ4_K));
    const QuantizedRows halves = quantize_rows(t.context, x.matrix(), rows_form(DType::kQ6_K));
    ASSERT_TRUE(minima.n_blocks == 16 && minima.n_parts == 1 && minima.sums != nullptr);
    ASSERT_TRUE(halves.n_blocks == 16 && halves.n_parts == 2 && halves.sums == nullptr);
    for (int64_t b = 0; b < 3 * 16; ++b) {
      int32_t of_half[2] = {0, 0};
      for (int64_t k = 0; k < 32; ++k) of_half[k / 16] += minima.values[b * 32 + k];
      EXPECT_EQ(std::memcmp(minima.values + b * 32, halves.values + b * 32, 32), 0);
      EXPECT_EQ(minima.starts[b], 0);
      EXPECT_EQ(halves.starts[2 * b], -32 * of_half[0]);
      EXPECT_EQ(halves.starts[2 * b + 1], -32 * of_half[1]);
      if (b == 16 + 2) {
        EXPECT_TRUE(std::isnan(minima.sums[b]) && std::isnan(halves.scales[b]));
      } else {
        EXPECT_EQ(minima.sums[b], minima.scales[b] * static_cast<float>(of_half[0] + of_half[1]));
      }
    }
  });
}

}  // namespace
}  // namespace sepllm
