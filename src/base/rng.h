// A counter-based random number generator: the value at (seed, stream, counter) depends on nothing else, so
// results do not depend on the number of threads or on resuming.
#pragma once

#include <cstdint>

namespace sepllm {

class Rng {
 public:
  explicit Rng(uint64_t seed, uint64_t stream = 0) : seed_(seed), stream_(stream) {}

  uint64_t bits(uint64_t counter) const;   // 64 uniform bits
  double uniform(uint64_t counter) const;  // [0, 1), 53 bits
  double normal(uint64_t counter) const;   // mean 0, variance 1

 private:
  uint64_t seed_, stream_;
};

}  // namespace sepllm
