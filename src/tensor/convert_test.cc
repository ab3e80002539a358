#include "tensor/convert.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

namespace sepllm {
namespace {

TEST(Convert, RoundTripsValuesThatEachTypeHolds) {
  const std::vector<float> values = {0.0F, -0.0F, 1.0F, -2.5F, 0.15625F, 96.0F};
  for (const DType type : {DType::kF32, DType::kF16, DType::kBF16}) {
    // One byte off: stored data promises no alignment.
    std::vector<char> stored(values.size() * 4 + 1);
    std::vector<float> back(values.size());
    const auto n = static_cast<int64_t>(values.size());
    convert_from_f32(values.data(), n, type, stored.data() + 1);
    convert_to_f32(type, stored.data() + 1, n, back.data());
    EXPECT_EQ(std::memcmp(back.data(), values.data(), values.size() * 4), 0) << dtype_name(type);
  }
}

TEST(Convert, RoundsToTheNearest) {
  const float third = 1.0F / 3;
  float back = 0;
  char stored[4];
  convert_from_f32(&third, 1, DType::kF16, stored);
  convert_to_f32(DType::kF16, stored, 1, &back);
  EXPECT_NEAR(back, third, 1.3e-4);
  convert_from_f32(&third, 1, DType::kBF16, stored);
  convert_to_f32(DType::kBF16, stored, 1, &back);
  EXPECT_NEAR(back, third, 1e-3);
}

TEST(Convert, FindsNonFiniteElements) {
  for (const DType type : {DType::kF32, DType::kF16, DType::kBF16}) {
    std::vector<float> values(3000, 1.0F);
    std::vector<char> stored(values.size() * 4);
    convert_from_f32(values.data(), 3000, type, stored.data());
    EXPECT_EQ(find_non_finite(type, stored.data(), 3000), -1);
    values[2999] = std::numeric_limits<float>::infinity();
    convert_from_f32(values.data(), 3000, type, stored.data());
    EXPECT_EQ(find_non_finite(type, stored.data(), 3000), 2999);
    values[1024] = std::nanf("");
    convert_from_f32(values.data(), 3000, type, stored.data());
    EXPECT_EQ(find_non_finite(type, stored.data(), 3000), 1024);
  }
  EXPECT_EQ(find_non_finite(DType::kF32, nullptr, 0), -1);
}

}  // namespace
}  // namespace sepllm
