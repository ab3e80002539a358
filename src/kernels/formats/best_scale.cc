#include "kernels/formats/best_scale.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <span>

namespace sepllm {

float extreme(std::span<const float> x) {
  float most = 0.0F;
  for (const float value : x) {
    if (std::isnan(value)) return value;
    if (std::fabs(value) > std::fabs(most)) most = value;
  }
  return most;
}

f16 best_scale(std::span<const float> x, float plain, const ScaleFactors& factors, int low, int high) {
  constexpr float kLeast = 0x1p-14F, kMost = 32768.0F;
  if (!(std::fabs(plain) >= kLeast && std::fabs(plain) <= kMost)) return to_f16(plain);
  float errors[kScaleCandidates];
  rounding_errors(x, plain, factors.of, static_cast<float>(low), static_cast<float>(high), errors);
  return to_f16(plain * factors.of[std::min_element(errors, errors + kScaleCandidates) - errors]);
}

void round_to_scale(std::span<const float> x, f16 scale, const IntegerRange& range, uint8_t* to) {
  const float s = to_float(scale);
  const float by = s != 0.0F && std::isfinite(s) ? 1.0F / s : 0.0F;
  const auto low = static_cast<float>(range.low), high = static_cast<float>(range.high);
  for (const float value : x) {
    const int rounded = by == 0.0F ? 0 : static_cast<int>(std::lrintf(std::clamp(value * by, low, high)));
    *to++ = static_cast<uint8_t>(rounded + range.zero);
  }
}

bool leading_scale_is_finite(const void* block) {
  f16 scale;
  std::memcpy(&scale, block, sizeof(scale));
  return std::isfinite(to_float(scale));
}

}  // namespace sepllm
