// Shared by formats whose blocks have one f16 scale: rounding floats to integer multiples of it.
#pragma once

#include <cstdint>
#include <span>

#include "base/dtype.h"
#include "kernels/formats/block_scales.h"

namespace sepllm {

// The factors by which the plain scale is multiplied in search of a better one; the first is 1.
struct ScaleFactors {
  float of[kScaleCandidates];
};

// The element of largest magnitude; NaN if any element is NaN.
float extreme(std::span<const float> x);

// The f16 scale near `plain` with the least sum of squared errors, for integers in [low, high]; `plain`
// itself where f16 loses digits or overflows.
f16 best_scale(std::span<const float> x, float plain, const ScaleFactors& factors, int low, int high);

// to[k] = x[k] / scale, rounded to an integer in [low, high], plus `zero`; only `zero` if the scale is 0.
struct IntegerRange {
  int low, high, zero;
};
void round_to_scale(std::span<const float> x, f16 scale, const IntegerRange& range, uint8_t* to);

// Whether the f16 at the beginning of a block is finite.
bool leading_scale_is_finite(const void* block);

}  // namespace sepllm
