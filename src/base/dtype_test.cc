#include "base/dtype.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>

namespace sepllm {
namespace {

// The value of a half-precision number by the definition of IEEE 754.
double half_value(uint32_t bits) {
  const double sign = (bits & 0x8000U) != 0 ? -1 : 1;
  const int exponent = static_cast<int>((bits >> 10) & 31U);
  const double fraction = (bits & 0x3FFU) / 1024.0;
  if (exponent == 31) return fraction != 0 ? NAN : sign * INFINITY;
  return exponent == 0 ? sign * std::ldexp(fraction, -14) : sign * std::ldexp(1 + fraction, exponent - 15);
}

TEST(DType, EveryHalfIsReadAndWrittenBack) {
  for (uint32_t b = 0; b < 0x10000; ++b) {
    const float value = to_float(f16{static_cast<uint16_t>(b)});
    const double want = half_value(b);
    if (std::isnan(want)) {
      EXPECT_TRUE(std::isnan(value)) << b;
      EXPECT_TRUE(std::isnan(to_float(to_f16(value)))) << b;
      continue;
    }
    ASSERT_EQ(value, want) << b;
    ASSERT_EQ(std::signbit(value), (b & 0x8000U) != 0) << b;
    ASSERT_EQ(to_f16(value).bits, b) << b;
  }
}

// Between each pair of neighbouring halves, the exact middle is rounded to the even one, and values next to
// the middle to the nearer one.
TEST(DType, HalvesRoundToNearestEven) {
  for (uint32_t b = 0; b < 0x7BFF; ++b) {
    const double low = half_value(b), high = half_value(b + 1);
    const auto middle = static_cast<float>((low + high) / 2);  // exact
    const uint32_t even = (b & 1U) == 0 ? b : b + 1;
    ASSERT_EQ(to_f16(middle).bits, even) << b;
    ASSERT_EQ(to_f16(-middle).bits, even | 0x8000U) << b;
    ASSERT_EQ(to_f16(std::nextafter(middle, 0.0F)).bits, b) << b;
    ASSERT_EQ(to_f16(std::nextafter(middle, INFINITY)).bits, b + 1) << b;
  }
  EXPECT_EQ(to_f16(65519.996F).bits, 0x7BFF);
  EXPECT_EQ(to_f16(65520.0F).bits, 0x7C00);
  EXPECT_EQ(to_f16(std::numeric_limits<float>::max()).bits, 0x7C00);
  EXPECT_EQ(to_f16(std::numeric_limits<float>::denorm_min()).bits, 0);
}

TEST(DType, Bfloat16RoundsToNearestEven) {
  for (uint32_t b = 0; b < 0x7F80; ++b) {
    const uint32_t bits = b << 16;
    const float value = std::bit_cast<float>(bits);
    ASSERT_EQ(to_float(bf16{static_cast<uint16_t>(b)}), value);
    ASSERT_EQ(to_bf16(value).bits, b);
    ASSERT_EQ(to_bf16(-value).bits, b | 0x8000U);
    const uint32_t even = (b & 1U) == 0 ? b : b + 1;
    ASSERT_EQ(to_bf16(std::bit_cast<float>(bits | 0x8000U)).bits, even);
    ASSERT_EQ(to_bf16(std::bit_cast<float>(bits | 0x7FFFU)).bits, b);
    ASSERT_EQ(to_bf16(std::bit_cast<float>(bits | 0x8001U)).bits, b + 1);
  }
  EXPECT_EQ(to_bf16(INFINITY).bits, 0x7F80);
  // A NaN stays a NaN even if its whole payload is in the bits that are cut off.
  EXPECT_TRUE(std::isnan(to_float(to_bf16(std::bit_cast<float>(0x7F800001U)))));
  EXPECT_TRUE(std::isnan(to_float(to_bf16(std::bit_cast<float>(0xFFFFFFFFU)))));
}

TEST(DType, IntegersRoundToNearestEvenAndSaturate) {
  const float inf = std::numeric_limits<float>::infinity();
  const std::pair<float, int> cases[] = {{0.5F, 0},      {1.5F, 2},     {-1.5F, -2},  {-0.49F, 0},
                                         {126.6F, 127},  {127.5F, 127}, {1e30F, 127}, {-127.6F, -128},
                                         {-1e30F, -128}, {inf, 127},    {-inf, -128}, {std::nanf(""), 0}};
  for (const auto& [value, expected] : cases) EXPECT_EQ(to_i8(value), expected) << value;
}

TEST(DType, NamesAndSizes) {
  EXPECT_STREQ(dtype_name(DType::kF32), "f32");
  EXPECT_STREQ(dtype_name(DType::kF16), "f16");
  EXPECT_STREQ(dtype_name(DType::kBF16), "bf16");
  EXPECT_EQ(dtype_size(DType::kF32), 4);
  EXPECT_EQ(dtype_size(DType::kF16), 2);
  EXPECT_EQ(dtype_size(DType::kBF16), 2);
  EXPECT_STREQ(dtype_name(DType::kI8), "i8");
  EXPECT_EQ(dtype_size(DType::kI8), 1);
}

}  // namespace
}  // namespace sepllm
