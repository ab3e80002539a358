#include "kernels/rowwise/norm.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/kernel_test_support.h"

namespace sepllm {
namespace {

using test::Rows;

TEST(Norm, AgreesWithTheDefinition) {
  for (const int64_t n_cols : {1, 3, 16, 63, 65, 768, 4097}) {
    for (const int64_t n_rows : {1, 2, 37}) {
      SCOPED_TRACE(testing::Message() << n_rows << "x" << n_cols);
      Rows x(n_rows, n_cols, 3, 1), weight(1, n_cols, 0, 2), bias(1, n_cols, 0, 5);
      x.fill(1, -3, 5);
      weight.fill(2);
      bias.fill(3);
      const float* w = weight.matrix().data;
      Rows rms(n_rows, n_cols, 5), layer(n_rows, n_cols, 5), plain(n_rows, n_cols, 5);
      rms_norm_reference(x.matrix(), w, 1e-5F, rms.matrix());
      layer_norm_reference(x.matrix(), w, bias.matrix().data, 1e-5F, layer.matrix());
      layer_norm_reference(x.matrix(), w, nullptr, 1e-5F, plain.matrix());
      test::for_each_target([&] {
        Rows bits(0, 0);
        for (const int threads : {1, 3}) {
          test::Threads t(threads);
          Rows y(n_rows, n_cols, 5);
          rms_norm(t.context, x.matrix(), w, 1e-5F, y.matrix());
          EXPECT_LE(test::max_difference(y.matrix(), rms.matrix()), 1e-6);
          EXPECT_EQ(y.damaged(), 0);
          layer_norm(t.context, x.matrix(), w, bias.matrix().data, 1e-5F, y.matrix());
          EXPECT_LE(test::max_difference(y.matrix(), layer.matrix()), 2e-6);
          layer_norm(t.context, x.matrix(), w, nullptr, 1e-5F, y.matrix());
          EXPECT_LE(test::max_difference(y.matrix(), plain.matrix()), 2e-6);
          EXPECT_EQ(y.damaged(), 0);
        }
      });
    }
  }
}

TEST(Norm, InPlaceAndOnAnyThreadsTheSameBits) {
  constexpr int64_t kRows = 100, kCols = 1031;
  Rows x(kRows, kCols, 1), weight(1, kCols);
  x.fill(1);
  weight.fill(2);
  test::for_each_target([&] {
    test::Threads one(1), four(4);
    Rows a(kRows, kCols, 1), b = x;
    rms_norm(one.context, x.matrix(), weight.matrix().data, 1e-6F, a.matrix());
    rms_norm(four.context, b.matrix(), weight.matrix().data, 1e-6F, b.matrix());
    EXPECT_TRUE(a.same_bits(b));
  });
}

// Heads that lie apart, against the norm of a copy in which each is a row.
TEST(Norm, OfHeadsIsThatOfRows) {
  constexpr int64_t kRows = 37, kHeads = 3, kDim = 19;
  const HeadLayout layout = HeadLayout::even(kHeads, kDim, 2 * kDim, 5);
  Rows x(kRows, 2 * kHeads * kDim + 5, 3), dy(kRows, 2 * kHeads * kDim + 5, 3), weight(1, kDim);
  x.fill(1, -2, 3);
  dy.fill(2);
  weight.fill(3);
  const auto dense = [&](const Rows& from) {
    Rows out(kRows * kHeads, kDim);
    for (int64_t r = 0; r < kRows; ++r) {
      for (int64_t h = 0; h < kHeads; ++h)
        std::copy_n(from.matrix().row(r) + layout.at(h), kDim, out.matrix().row(r * kHeads + h));
    }
    return out;
  };
  test::for_each_target([&] {
    test::Threads t(3);
    Rows heads = x, rows = dense(x), d = dy, d_rows = dense(dy);
    const Rows before = rows;
    rms_norm_heads(t.context, {heads.matrix().data, heads.matrix().stride, layout}, kRows,
                   weight.matrix().data, 1e-5F);
    rms_norm(t.context, rows.matrix(), weight.matrix().data, 1e-5F, rows.matrix());
    EXPECT_EQ(test::max_difference(dense(heads).matrix(), rows.matrix()), 0);
    EXPECT_EQ(heads.damaged(), 0);
    std::vector<float> dw(kDim), dw_rows(kDim);
    NormBackward norm{.weight = weight.matrix().data, .dweight = dw.data()};
    rms_norm_heads_backward(t.context, before.matrix(), norm, {d.matrix().data, d.matrix().stride, layout},
                            kRows);
    norm.dweight = dw_rows.data();
    norm_backward(t.context, before.matrix(), norm, d_rows.matrix(), d_rows.matrix(), false);
    EXPECT_EQ(test::max_difference(dense(d).matrix(), d_rows.matrix()), 0);
    EXPECT_EQ(dw, dw_rows);
    EXPECT_EQ(d.damaged(), 0);
  });
}

// A mean that is large compared with the spread: one pass over squares would lose the variance.
TEST(Norm, LayerNormKeepsASmallVarianceNextToALargeMean) {
  constexpr int64_t kCols = 4000;
  Rows x(1, kCols), weight(1, kCols), y(1, kCols), expected(1, kCols);
  x.fill(1, 999.0F, 1001.0F);
  weight.fill(2, 0.5F, 1.0F);
  layer_norm_reference(x.matrix(), weight.matrix().data, nullptr, 1e-5F, expected.matrix());
  test::for_each_target([&] {
    test::Threads t(1);
    layer_norm(t.context, x.matrix(), weight.matrix().data, nullptr, 1e-5F, y.matrix());
    EXPECT_LE(test::max_difference(y.matrix(), expected.matrix()), 2e-4);
  });
}

}  // namespace
}  // namespace sepllm
