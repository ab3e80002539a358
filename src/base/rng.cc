#include "base/rng.h"

#include <cmath>
#include <cstdint>
#include <numbers>

namespace sepllm {
namespace {

// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection with a good avalanche effect.
uint64_t mix(uint64_t x) {
  x += 0x9E3779B97F4A7C15ULL;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

}  // namespace

uint64_t Rng::bits(uint64_t counter) const { return mix(mix(mix(seed_) ^ stream_) ^ counter); }

double Rng::uniform(uint64_t counter) const { return static_cast<double>(bits(counter) >> 11) * 0x1p-53; }

double Rng::normal(uint64_t counter) const {
  const double u = 1.0 - uniform(2 * counter);  // (0, 1]
  return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * uniform(2 * counter + 1));
}

}  // namespace sepllm
