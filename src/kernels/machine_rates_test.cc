#include "kernels/machine_rates.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/kernel_test_support.h"
#include "kernels/walk_rates.h"

namespace sepllm {
namespace {

TEST(MachineRates, SumsEveryWordOnce) {
  std::vector<uint32_t> words(256 * 9 + 3);
  std::mt19937 rng(1);
  for (uint32_t& w : words) w = rng();
  test::for_each_target([&] {
    for (const int64_t begin : {0, 1, 259}) {
      for (const int64_t n : {0, 256, 256 * 7}) {
        const uint32_t expected =
            std::accumulate(words.begin() + begin, words.begin() + begin + n, uint32_t{0});
        for (const Walk& walk : candidate_walks())
          EXPECT_EQ(sum_words(words.data(), begin, begin + n, walk), expected)
              << begin << " " << n << " " << walk.streams;
      }
    }
  });
}

// Bounds that hold on every machine: a measurement that does not read, or forgets to count, falls outside.
TEST(MachineRates, ReadBandwidthIsThatOfAMachine) {
  for (const int threads : {1, 3}) {
    test::Threads t(threads);
    const double rate = read_bandwidth(t.context, int64_t{32} << 20);
    EXPECT_GT(rate, 1e7);
    EXPECT_LT(rate, 5e12);
  }
  test::Threads t(3);
  ReadProbe tiny(t.context, 1);  // fewer blocks than threads
  EXPECT_EQ(tiny.bytes(), 1024);
  EXPECT_GT(tiny.measure(t.context), 0);
}

TEST(MachineRates, SgemmRateIsThatOfAMachine) {
  for (const int threads : {1, 2}) {
    test::Threads t(threads);
    const double rate = sgemm_flops(t.context, 200);
    EXPECT_GT(rate, 1e7);
    EXPECT_LT(rate, 1e14);
  }
}

}  // namespace
}  // namespace sepllm
