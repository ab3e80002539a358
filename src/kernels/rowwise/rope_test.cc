#include "kernels/rowwise/rope.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "base/rng.h"
#include "kernels/kernel_test_support.h"

namespace sepllm {
namespace {

using test::Rows;

std::vector<double> frequencies(int64_t n) {
  std::vector<double> f;
  for (int64_t i = 0; i < n; ++i)
    f.push_back(std::pow(10000.0, -static_cast<double>(i) / static_cast<double>(n)));
  return f;
}

struct Tables {
  Tables(const Context& ctx, const std::vector<double>& inv_freq, const std::vector<int64_t>& positions)
      : n_freq(inv_freq.size()), cos(n_freq * positions.size()), sin(cos.size()) {
    rope_tables(ctx, inv_freq, positions, cos.data(), sin.data());
  }
  RopeTables tables() const { return {static_cast<int64_t>(n_freq), cos.data(), sin.data()}; }
  size_t n_freq;
  std::vector<float> cos, sin;
};

Heads heads_of(Rows& rows, const HeadLayout& layout) {
  return {rows.matrix().data, rows.matrix().stride, layout};
}

TEST(Rope, TablesAreExactFarOut) {
  const std::vector<double> inv_freq = {1.0, 0.25, 1e-3};
  const std::vector<int64_t> positions = {0, 1, 4'000'000, int64_t{1} << 40, -7};
  test::Threads t(2);
  const Tables tables(t.context, inv_freq, positions);
  for (size_t r = 0; r < positions.size(); ++r) {
    for (size_t i = 0; i < inv_freq.size(); ++i) {
      const long double angle = static_cast<long double>(positions[r]) * inv_freq[i];
      EXPECT_NEAR(tables.cos[r * 3 + i], std::cos(angle), 1e-7L + std::abs(angle) * 1e-16L);
      EXPECT_NEAR(tables.sin[r * 3 + i], std::sin(angle), 1e-7L + std::abs(angle) * 1e-16L);
    }
  }
}

TEST(Rope, TablesDoNotDependOnThreads) {
  std::vector<int64_t> positions(500);
  for (size_t r = 0; r < positions.size(); ++r) positions[r] = static_cast<int64_t>(r * 13);
  const auto inv_freq = frequencies(32);
  test::Threads one(1), three(3);
  const Tables a(one.context, inv_freq, positions), b(three.context, inv_freq, positions);
  EXPECT_EQ(a.cos, b.cos);
  EXPECT_EQ(a.sin, b.sin);
}

TEST(Rope, RotatesHeadsAndNothingElse) {
  for (const int64_t n_freq : {1, 4, 16, 19, 32}) {
    for (const RopePairing pairing : {RopePairing::kHalf, RopePairing::kInterleaved}) {
      for (const int64_t n_rows : {1, 90}) {
        SCOPED_TRACE(testing::Message() << n_freq << " " << static_cast<int>(pairing) << " rows " << n_rows);
        // A fused row: groups of 2 heads, other data between the groups, and 3 dims that are not rotated.
        const int64_t dim = 2 * n_freq + 3;
        const HeadLayout heads{
            .n = 6, .dim = dim, .group = 2, .stride = dim, .group_stride = 2 * dim + 5, .offset = 4};
        const int64_t n_cols = 4 + 3 * heads.group_stride + 2;
        const auto inv_freq = frequencies(n_freq);
        std::vector<int64_t> positions;
        for (int64_t r = 0; r < n_rows; ++r) positions.push_back(r * r * 1000);
        Rows x(n_rows, n_cols, 3, 1);
        x.fill(1);
        Rows expected = x;
        rope_rotate_reference(heads_of(expected, heads), pairing, inv_freq, positions);
        test::for_each_target([&] {
          test::Threads t(3);
          const Tables tables(t.context, inv_freq, positions);
          Rows in_place = x, other(n_rows, n_cols, 9, 2);
          rope_rotate(t.context, heads_of(in_place, heads), heads_of(in_place, heads), n_rows, pairing,
                      tables.tables());
          EXPECT_LE(test::max_difference(in_place.matrix(), expected.matrix()), 3e-7);
          EXPECT_EQ(in_place.damaged(), 0);
          // Not in place: only the heads' columns are written, and all of them.
          rope_rotate(t.context, heads_of(x, heads), heads_of(other, heads), n_rows, pairing,
                      tables.tables());
          for (int64_t c = 0; c < n_cols; ++c) {
            const int64_t in_group = (c - 4) % heads.group_stride;
            const bool inside = c >= 4 && c < 4 + 3 * heads.group_stride && in_group < 2 * heads.dim;
            for (int64_t r = 0; r < n_rows; ++r) {
              EXPECT_EQ(other.at(r, c), inside ? in_place.at(r, c) : Rows::kGuard) << r << " " << c;
            }
          }
          EXPECT_EQ(other.damaged(), 0);
        });
      }
    }
  }
}

TEST(Rope, StoredRows) {
  for (const DType type : test::kAllTypes) {
    for (const int64_t n_freq : {1, 5, 16, 33}) {
      for (const RopePairing pairing : {RopePairing::kHalf, RopePairing::kInterleaved}) {
        const int64_t n = 2 * n_freq;
        const auto stored = test::random_stored(type, n + 1, 4);
        const auto inv_freq = frequencies(n_freq);
        test::Threads t(1);
        const Tables tables(t.context, inv_freq, {12345});
        Rows expected(1, n);
        for (int64_t i = 0; i < n; ++i) expected.at(0, i) = load_element(type, stored.data(), i);
        rope_rotate_reference(heads_of(expected, HeadLayout::dense(1, n)), pairing, inv_freq,
                              std::vector<int64_t>{12345});
        test::for_each_target([&] {
          auto row = stored;
          rope_rotate_stored(type, row.data(), pairing, tables.tables());
          const double step = type == DType::kF32 ? 3e-7 : type == DType::kF16 ? 1e-3 : 8e-3;
          for (int64_t i = 0; i < n; ++i) {
            EXPECT_NEAR(load_element(type, row.data(), i), expected.at(0, i), step) << i;
          }
          const int64_t size = dtype_size(type);
          EXPECT_EQ(std::memcmp(row.data() + n * size, stored.data() + n * size, size), 0);
        });
      }
    }
  }
}

// int8: compares the dequantised row, to half a step of its new scale.
TEST(Rope, QuantizedRows) {
  for (const int64_t n_freq : {1, 5, 16, 33}) {
    for (const RopePairing pairing : {RopePairing::kHalf, RopePairing::kInterleaved}) {
      const int64_t n = 2 * n_freq + 3;  // the last dims are not rotated
      std::vector<int8_t> stored(static_cast<size_t>(n + 1), 77);
      const Rng rng(9);
      for (int64_t i = 0; i < n; ++i)
        stored[static_cast<size_t>(i)] = static_cast<int8_t>(rng.bits(static_cast<uint64_t>(i)) % 255 - 127);
      const auto inv_freq = frequencies(n_freq);
      test::Threads t(1);
      const Tables tables(t.context, inv_freq, {12345});
      constexpr float kScale = 0.03F;
      Rows expected(1, n);
      for (int64_t i = 0; i < n; ++i)
        expected.at(0, i) = kScale * static_cast<float>(stored[static_cast<size_t>(i)]);
      rope_rotate_reference(heads_of(expected, HeadLayout::dense(1, n)), pairing, inv_freq,
                            std::vector<int64_t>{12345});
      float largest = 0.0F;
      for (int64_t i = 0; i < n; ++i) largest = std::max(largest, std::abs(expected.at(0, i)));
      test::for_each_target([&] {
        auto row = stored;
        float scale = kScale;
        std::vector<float> scratch(static_cast<size_t>(n));
        rope_rotate_quantized(row.data(), &scale, n, pairing, tables.tables(), scratch.data());
        EXPECT_NEAR(scale, largest / 127.0F, 1e-6F * largest);
        for (int64_t i = 0; i < n; ++i) {
          EXPECT_NEAR(scale * static_cast<float>(row[static_cast<size_t>(i)]), expected.at(0, i),
                      0.5001F * scale + 1e-6F)
              << i;
        }
        EXPECT_EQ(row.back(), 77);
      });
    }
  }
}

// Rotating by a and then by b equals rotating by a + b; compressions of the cache rely on it.
TEST(Rope, RotationsAdd) {
  constexpr int64_t kFreq = 24;
  const auto inv_freq = frequencies(kFreq);
  test::Threads t(1);
  const Tables a(t.context, inv_freq, {700}), b(t.context, inv_freq, {-653}), both(t.context, inv_freq, {47});
  Rows twice(1, 2 * kFreq), once(1, 2 * kFreq);
  twice.fill(1);
  once.fill(1);
  rope_rotate_stored(DType::kF32, twice.matrix().data, RopePairing::kHalf, a.tables());
  rope_rotate_stored(DType::kF32, twice.matrix().data, RopePairing::kHalf, b.tables());
  rope_rotate_stored(DType::kF32, once.matrix().data, RopePairing::kHalf, both.tables());
  EXPECT_LE(test::max_difference(twice.matrix(), once.matrix()), 5e-7);
}

}  // namespace
}  // namespace sepllm
