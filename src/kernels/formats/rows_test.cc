#include "kernels/formats/rows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "kernels/kernel_test_support.h"

namespace sepllm {
namespace {

constexpr int64_t kSizes[] = {1, 3, 4, 7, 8, 15, 16, 17, 64, 100, 257};

// The stored bytes between guards, and the scale.
struct Quantized {
  std::vector<int8_t> bytes;
  float scale;
  int8_t at(int64_t i) const { return bytes[static_cast<size_t>(i + 1)]; }
};

Quantized quantized(const std::vector<float>& x) {
  Quantized q{std::vector<int8_t>(x.size() + 2, 99), 0};
  q.scale = quantize_row(x.data(), static_cast<int64_t>(x.size()), q.bytes.data() + 1);
  EXPECT_EQ(q.bytes.front(), 99);
  EXPECT_EQ(q.bytes.back(), 99);
  return q;
}

TEST(Rows, QuantizedRowsAreWithinHalfAScale) {
  test::for_each_target([] {
    for (const int64_t n : kSizes) {
      for (const float size : {1.0F, 1e-20F, 1e38F, 0x1p-99F}) {
        test::Rows x(1, n);
        x.fill(static_cast<uint32_t>(n), -size, size);
        const std::vector<float> row(x.matrix().data, x.matrix().data + n);
        const Quantized q = quantized(row);
        double largest = 0;
        for (const float v : row) largest = std::max(largest, std::abs(static_cast<double>(v)));
        if (largest < 0x1p-100) continue;  // one element may be that small
        EXPECT_NEAR(q.scale, largest / 127, largest * 1e-7);
        for (int64_t i = 0; i < n; ++i) {
          EXPECT_LE(std::abs(static_cast<double>(q.scale) * q.at(i) - row[static_cast<size_t>(i)]),
                    0.5001 * static_cast<double>(q.scale));
        }
      }
    }
  });
}

TEST(Rows, QuantizingRoundsToNearestEven) {
  test::for_each_target([] {
    const Quantized q = quantized({127.0F, 0.5F, 1.5F, -2.5F, -127.0F, 0.49F, -0.51F});
    EXPECT_EQ(q.scale, 1.0F);
    const int expected[] = {127, 0, 2, -2, -127, 0, -1};
    for (int64_t i = 0; i < 7; ++i) EXPECT_EQ(q.at(i), expected[i]) << i;
  });
}

TEST(Rows, RowsOfZerosAndTinyValuesBecomeZeros) {
  test::for_each_target([] {
    for (const int64_t n : kSizes) {
      for (const float value : {0.0F, -0.0F, 1e-40F, 0x1p-101F}) {
        const Quantized q = quantized(std::vector<float>(static_cast<size_t>(n), value));
        EXPECT_EQ(q.scale, 0.0F);
        for (int64_t i = 0; i < n; ++i) EXPECT_EQ(q.at(i), 0);
      }
    }
  });
}

TEST(Rows, TheLargestFloatsAreQuantized) {
  test::for_each_target([] {
    const float most = std::numeric_limits<float>::max();
    const Quantized q = quantized({most, -most, most / 2, 0});
    EXPECT_FLOAT_EQ(q.scale, most / 127);
    EXPECT_EQ(q.at(0), 127);
    EXPECT_EQ(q.at(1), -127);
    EXPECT_EQ(q.at(2), 64);
    EXPECT_EQ(q.at(3), 0);
  });
}

TEST(Rows, ANanOrInfinityMakesTheScaleNan) {
  test::for_each_target([] {
    for (const int64_t n : kSizes) {
      for (const float bad :
           {std::nanf(""), std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()}) {
        for (const int64_t place : {int64_t{0}, n / 2, n - 1}) {
          std::vector<float> row(static_cast<size_t>(n), 2.0F);
          row[static_cast<size_t>(place)] = bad;
          const Quantized q = quantized(row);
          EXPECT_TRUE(std::isnan(q.scale));
          for (int64_t i = 0; i < n; ++i) EXPECT_EQ(q.at(i), 0);
        }
      }
    }
  });
}

TEST(Rows, Int8WithoutScalesIsTheIntegers) {
  test::for_each_target([] {
    for (const int64_t n : kSizes) {
      const std::vector<char> stored = test::random_stored(DType::kI8, n, 3);
      std::vector<float> floats(static_cast<size_t>(n) + 1, -7.0F);
      row_to_f32(DType::kI8, stored.data(), n, floats.data());
      for (int64_t i = 0; i < n; ++i)
        EXPECT_EQ(floats[static_cast<size_t>(i)],
                  static_cast<float>(static_cast<int8_t>(stored[static_cast<size_t>(i)])));
      EXPECT_EQ(floats.back(), -7.0F);
      std::vector<char> back(static_cast<size_t>(n) + 1, 99);
      row_from_f32(DType::kI8, floats.data(), n, back.data());
      EXPECT_EQ(std::vector<char>(back.begin(), back.end() - 1), stored);
      EXPECT_EQ(back.back(), 99);
    }
  });
}

}  // namespace
}  // namespace sepllm
