#include "base/dtype.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

namespace sepllm {

float to_float(f16 value) {
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000U) << 16;
  const uint32_t exponent = (value.bits >> 10) & 0x1FU;
  const uint32_t mantissa = value.bits & 0x3FFU;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7F800000U | (mantissa << 13));
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24F;
    return sign != 0 ? -magnitude : magnitude;
  }
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

f16 to_f16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000U);
  const uint32_t magnitude = bits & 0x7FFFFFFFU;
  if (magnitude > 0x7F800000U) return {static_cast<uint16_t>(sign | 0x7E00U)};
  if (magnitude >= 0x477FF000U) return {static_cast<uint16_t>(sign | 0x7C00U)};  // 65520 and above
  if (magnitude < 0x38800000U) {  // below the smallest normal: units of 2^-24
    const float scaled = std::bit_cast<float>(magnitude) * 0x1p24F;
    const float rounded = (scaled + 0x1p23F) - 0x1p23F;
    return {static_cast<uint16_t>(sign | static_cast<uint16_t>(rounded))};
  }
  const uint32_t rebased = magnitude - 0x38000000U;
  const uint32_t rounded = rebased + 0xFFFU + ((rebased >> 13) & 1U);
  return {static_cast<uint16_t>(sign | (rounded >> 13))};
}

int8_t to_i8(float value) {
  if (!(value > -128.0F)) return value != value ? int8_t{0} : int8_t{-128};
  return static_cast<int8_t>(std::nearbyint(std::min(value, 127.0F)));
}

bf16 to_bf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return {static_cast<uint16_t>((bits >> 16) | 0x40U)};
  return {static_cast<uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16)};
}

}  // namespace sepllm
