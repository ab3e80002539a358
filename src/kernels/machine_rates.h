// The best rates of this machine, measured: benchmarks state their figures as shares of them.
#pragma once

#include <cstdint>
#include <map>

#include "tensor/buffer.h"
#include "tensor/context.h"
#include "tensor/walk.h"

namespace sepllm {

// Reads an array of its own once per measurement. Keep one when figures and rates are measured in turns,
// because what a machine shares with its neighbours changes from second to second.
class ReadProbe {
 public:
  static constexpr int64_t kDefaultBytes = int64_t{1} << 30;  // much more than caches hold

  // Error (kOutOfRange) if there is not that much memory. bytes >= 1, rounded up to whole KiB.
  explicit ReadProbe(const Context& ctx, int64_t bytes = kDefaultBytes);

  // Bytes per second of one sum over the array by all threads of the pool, by walk_for(ctx).
  double measure(const Context& ctx);
  // The fastest of candidate_walks() (kernels/walk_rates.h) for as many threads, measured when it is
  // first asked for: a rate that other programs exceed by another walk would be no limit.
  Walk walk_for(const Context& ctx);

  int64_t bytes() const { return array_.bytes(); }

 private:
  double measure(const Context& ctx, const Walk& walk);

  Buffer array_;
  std::map<int, Walk> walks_;  // by threads
};

// Bytes per second: the best of 5 sums over `bytes` bytes of memory, with all threads of the pool.
double read_bandwidth(const Context& ctx, int64_t bytes = ReadProbe::kDefaultBytes);

// Floating-point operations per second of OpenBLAS sgemm, n x n x n, over all threads of the pool together:
// each thread computes a single-threaded product of its own at the same time; the best of 5 repeats. n >= 1.
double sgemm_flops(const Context& ctx, int64_t n = 1024);

// Vector kernel of ReadProbe: the sum (mod 2^32) of the 32-bit words [begin, end) of `words`, a multiple of
// 256 words, read by `walk`.
uint32_t sum_words(const uint32_t* words, int64_t begin, int64_t end, const Walk& walk = {});

}  // namespace sepllm
