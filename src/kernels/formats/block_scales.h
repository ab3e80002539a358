// Finds the scale that rounds a block of weights best: several are tried at once, one in each lane of the
// vectors.
#pragma once

#include <cstdint>
#include <span>

namespace sepllm {

inline constexpr int kScaleCandidates = 48;

// to[j] = sum over k of (x[k] - s q)^2, where s = scale * factors[j] rounded to the 11 bits of an f16, and q
// = x[k] / s rounded to an integer in [low, high]. `scale` within f16's normal numbers. The additions have
// the same order on every instruction set, so a block is the same on every machine.
void rounding_errors(std::span<const float> x, float scale, const float (&factors)[kScaleCandidates],
                     float low, float high, float (&to)[kScaleCandidates]);

}  // namespace sepllm
