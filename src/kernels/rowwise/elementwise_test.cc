#include "kernels/rowwise/elementwise.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "kernels/formats/rows.h"
#include "kernels/kernel_test_support.h"

namespace sepllm {
namespace {

using test::Rows;

constexpr Activation kActivations[] = {Activation::kGelu, Activation::kGeluTanh, Activation::kRelu,
                                       Activation::kSilu};

TEST(Elementwise, ActivationsOverTheWholeRange) {
  // From -30 to 30 in small steps, and what lies far outside.
  constexpr int64_t kSteps = 60'001;
  Rows x(1, kSteps + 6, 0, 1);
  for (int64_t i = 0; i < kSteps; ++i) x.at(0, i) = static_cast<float>(i - 30'000) * 1e-3F;
  const float far[] = {-1e30F, 1e30F, -200.0F, 200.0F, -1e-30F, -0.0F};
  for (int64_t i = 0; i < 6; ++i) x.at(0, kSteps + i) = far[i];
  for (const Activation f : kActivations) {
    SCOPED_TRACE(static_cast<int>(f));
    Rows expected = x;
    activate_reference(f, expected.matrix());
    test::for_each_target([&] {
      test::Threads t(2);
      Rows y = x;
      activate(t.context, f, y.matrix());
      EXPECT_EQ(y.damaged(), 0);
      for (int64_t i = 0; i < kSteps + 6; ++i) {
        const double want = expected.at(0, i);
        ASSERT_NEAR(y.at(0, i), want, 4e-7 + 4e-7 * std::abs(want)) << x.at(0, i);
      }
    });
  }
}

TEST(Elementwise, GatedAndAddOfOddShapes) {
  for (const int64_t n_cols : {1, 7, 16, 33, 5000}) {
    for (const int64_t n_rows : {1, 3, 40}) {
      Rows x(n_rows, n_cols, 3, 1), up(n_rows, n_cols, 5, 2);
      x.fill(1, -4, 4);
      up.fill(2);
      for (const Activation f : kActivations) {
        Rows expected = x;
        activate_reference(f, expected.matrix());
        for (int64_t r = 0; r < n_rows; ++r) {
          for (int64_t c = 0; c < n_cols; ++c) expected.at(r, c) *= up.at(r, c);
        }
        test::for_each_target([&] {
          test::Threads one(1), three(3);
          Rows a = x, b = x;
          activate_gated(one.context, f, a.matrix(), up.matrix());
          activate_gated(three.context, f, b.matrix(), up.matrix());
          EXPECT_LE(test::max_difference(a.matrix(), expected.matrix()), 2e-6);
          EXPECT_EQ(a.damaged(), 0);
          EXPECT_TRUE(a.same_bits(b));
        });
      }
      test::for_each_target([&] {
        test::Threads t(2);
        Rows a = x;
        add(t.context, a.matrix(), up.matrix());
        for (int64_t r = 0; r < n_rows; ++r) {
          for (int64_t c = 0; c < n_cols; ++c) EXPECT_EQ(a.at(r, c), x.at(r, c) + up.at(r, c));
        }
        EXPECT_EQ(a.damaged(), 0);
      });
    }
  }
}

TEST(Elementwise, EmbedReadsRows) {
  constexpr int64_t kVocab = 11;
  for (const DType type : test::kAllTypes) {
    for (const int64_t n : {1, 5, 32, 67}) {
      const auto stored = test::random_stored(type, kVocab * (n + 1), 1);
      const Weight table{type, stored.data(), kVocab, n, n + 1, false};
      const std::vector<int64_t> ids = {10, 0, 3, 3};
      test::for_each_target([&] {
        test::Threads t(2);
        Rows y(4, n, 3, 1);
        embed(t.context, table, ids, y.matrix());
        embed(t.context, table, ids, y.matrix(), true);
        for (int64_t r = 0; r < 4; ++r) {
          for (int64_t i = 0; i < n; ++i) {
            EXPECT_EQ(y.at(r, i),
                      2 * load_element(type, stored.data(), ids[static_cast<size_t>(r)] * (n + 1) + i));
          }
        }
        EXPECT_EQ(y.damaged(), 0);
      });
    }
  }
}

TEST(Elementwise, EmbedChecksItsIds) {
  const auto stored = test::random_stored(DType::kF32, 8, 1);
  const Weight table{DType::kF32, stored.data(), 4, 2, 2, false};
  test::Threads t(1);
  Rows y(1, 2);
  for (const int64_t id : {int64_t{-1}, int64_t{4}}) {
    EXPECT_THROW(embed(t.context, table, std::vector<int64_t>{id}, y.matrix()), CheckFailure);
  }
  EXPECT_EQ(y.at(0, 0), Rows::kGuard);
}

// Values that are hard to round: halves, overflow, subnormals, infinities, NaN.
std::vector<float> hard_values() {
  std::vector<float> v = {0.0F,      -0.0F, 65504.0F, 65519.0F, 65520.0F,   1e10F,    -1e10F,   INFINITY,
                          -INFINITY, NAN,   0x1p-24F, 0x1p-25F, 0x1.8p-25F, 0x1p-26F, 0x1p-14F, 3.4e38F};
  for (uint32_t i = 0; i < 400; ++i) {  // around every kind of tie
    v.push_back(std::bit_cast<float>(0x3F800000U + i * 0x800U));
    v.push_back(-std::bit_cast<float>(0x38800000U - 7U + i));
    v.push_back(std::bit_cast<float>(0x33000000U + i * 0x4000U));
  }
  return v;
}

TEST(Elementwise, StoreRoundsToNearestEven) {
  const std::vector<float> values = hard_values();
  const auto n = static_cast<int64_t>(values.size());
  // Two heads of half the values each, with gaps in the source and in the store.
  const HeadLayout heads = HeadLayout::even(2, n / 2, n / 2 + 2, 3);
  Rows x(1, n + 10, 0, 1);
  for (int64_t g = 0; g < 2; ++g) {
    for (int64_t i = 0; i < n / 2; ++i)
      x.at(0, heads.at(g) + i) = values[static_cast<size_t>(g * (n / 2) + i)];
  }
  for (const DType type : test::kAllTypes) {
    SCOPED_TRACE(dtype_name(type));
    const int64_t head_stride = n / 2 + 5;
    test::for_each_target([&] {
      test::Threads t(1);
      std::vector<char> stored(static_cast<size_t>((2 * head_stride + 1) * dtype_size(type)), 0x5A);
      void* rows[] = {stored.data()};
      store_rows(t.context, {x.matrix().data, x.matrix().stride, heads}, 1,
                 {.type = type, .rows = rows, .head_stride = head_stride});
      for (int64_t g = 0; g < 2; ++g) {
        for (int64_t i = 0; i < n / 2; ++i) {
          const float value = values[static_cast<size_t>(g * (n / 2) + i)];
          const void* at = element_at(type, static_cast<const void*>(stored.data()), g * head_stride + i);
          char one[4];
          store_element(type, one, 0, value);
          if (std::isnan(value)) {
            EXPECT_TRUE(std::isnan(load_element(type, at, 0)));
          } else {
            EXPECT_EQ(std::memcmp(one, at, static_cast<size_t>(dtype_size(type))), 0) << value;
          }
        }
      }
      for (int64_t i = n / 2 * dtype_size(type); i < head_stride * dtype_size(type); ++i) {
        EXPECT_EQ(stored[static_cast<size_t>(i)], 0x5A);
      }
    });
  }
}

TEST(Elementwise, Int8RowsHaveTheirScalesBesideThem) {
  constexpr int64_t kRows = 3, kHeads = 2, kDim = 21, kStride = 30;
  Rows x(kRows, 60);
  x.fill(4, -2, 2);
  const Heads heads{x.matrix().data, x.matrix().stride, HeadLayout::even(kHeads, kDim, 25, 5)};
  test::for_each_target([&] {
    test::Threads t(2);
    std::vector<int8_t> stored(kRows * kHeads * kStride, 99);
    std::vector<float> scales(kRows * kHeads, -1.0F);
    void* rows[kRows];
    float* row_scales[kRows];
    for (int64_t r = 0; r < kRows; ++r) {  // in another order than the rows of x
      rows[r] = stored.data() + (kRows - 1 - r) * kHeads * kStride;
      row_scales[r] = scales.data() + r;
    }
    store_rows(t.context, heads, kRows,
               {.type = DType::kI8,
                .rows = rows,
                .head_stride = kStride,
                .scales = row_scales,
                .scale_head_stride = kRows});
    for (int64_t r = 0; r < kRows; ++r) {
      for (int64_t g = 0; g < kHeads; ++g) {
        int8_t expected[kDim];
        const float scale = quantize_row(x.matrix().row(r) + 5 + g * 25, kDim, expected);
        EXPECT_EQ(scales[static_cast<size_t>(g * kRows + r)], scale);
        const int8_t* at = static_cast<const int8_t*>(rows[r]) + g * kStride;
        EXPECT_EQ(std::memcmp(at, expected, kDim), 0);
        EXPECT_EQ(at[kDim], 99);
      }
    }
  });
}

TEST(Elementwise, NllOfRows) {
  for (const int64_t vocab : {1, 5, 16, 511, 50'257}) {
    constexpr int64_t kRows = 5;
    Rows logits(kRows, vocab, 3, 1);
    logits.fill(1, -15, 15);
    for (int64_t i = 0; i < vocab; ++i) logits.at(2, i) += 1e4F;  // the maximum must be subtracted
    std::vector<int32_t> targets;
    for (int64_t r = 0; r < kRows; ++r) targets.push_back(static_cast<int32_t>((r * 7919) % vocab));
    test::for_each_target([&] {
      test::Threads one(1), three(3);
      double a[kRows], b[kRows];
      nll_rows(one.context, logits.matrix(), targets, a);
      nll_rows(three.context, logits.matrix(), targets, b);
      for (int64_t r = 0; r < kRows; ++r) {
        double sum = 0;
        const double target = logits.at(r, targets[static_cast<size_t>(r)]);
        for (int64_t i = 0; i < vocab; ++i) sum += std::exp(logits.at(r, i) - target);
        EXPECT_NEAR(a[r], std::log(sum), 1e-6) << vocab << " " << r;
        EXPECT_EQ(a[r], b[r]);
      }
    });
  }
}

}  // namespace
}  // namespace sepllm
