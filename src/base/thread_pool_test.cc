#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <stdexcept>
#include <thread>
#include <vector>

#include "base/check.h"
#include "base/error.h"
#include "tests/support/allocations.h"

namespace sepllm {
namespace {

class ThreadPoolOfSize : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Sizes, ThreadPoolOfSize, testing::Values(1, 2, 3, 16));

TEST_P(ThreadPoolOfSize, EachTaskRunsOnceOnAWorkerOfThePool) {
  ThreadPool pool(GetParam());
  EXPECT_EQ(pool.size(), GetParam());
  for (const int64_t n : {0, 1, 2, 7, 1000}) {  // the pool is used again and again
    std::vector<std::atomic<int>> runs(static_cast<size_t>(n));
    std::atomic<bool> wrong_worker{false};
    pool.parallel_for(n, [&](int64_t task, int worker) {
      ++runs[static_cast<size_t>(task)];
      if (worker < 0 || worker >= pool.size()) wrong_worker = true;
    });
    for (const auto& r : runs) EXPECT_EQ(r, 1);
    EXPECT_FALSE(wrong_worker);
  }
}

TEST_P(ThreadPoolOfSize, AWorkerNeverRunsTwoTasksAtOnce) {
  ThreadPool pool(GetParam());
  std::vector<std::atomic<int>> inside(static_cast<size_t>(GetParam()));
  std::atomic<bool> twice{false};
  pool.parallel_for(200, [&](int64_t, int worker) {
    if (inside[static_cast<size_t>(worker)]++ != 0) twice = true;
    std::this_thread::yield();
    --inside[static_cast<size_t>(worker)];
  });
  EXPECT_FALSE(twice);
}

TEST_P(ThreadPoolOfSize, AnExceptionComesOutAndThePoolGoesOn) {
  ThreadPool pool(GetParam());
  for (int round = 0; round < 20; ++round) {
    const auto failing = [&](int64_t task, int) {
      if (task == 5) throw std::runtime_error("five");
    };
    try {
      pool.parallel_for(100, failing);
      FAIL();
    } catch (const std::runtime_error& e) {
      EXPECT_STREQ(e.what(), "five");
    }
    std::atomic<int64_t> sum{0};
    pool.parallel_for(100, [&](int64_t task, int) { sum += task; });
    EXPECT_EQ(sum, 4950);
  }
}

// Workers spin, fall asleep, or come too late for a loop: no task is lost, and what tasks wrote is visible
// when the loop has ended.
TEST_P(ThreadPoolOfSize, LoopsFollowEachOtherClosely) {
  ThreadPool pool(GetParam());
  int64_t counts[5] = {};  // not atomic: only the pool orders the writes
  for (int round = 0; round < 3000; ++round) {
    if (round % 1000 == 999) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    const int64_t n = 2 + round % 4;
    pool.parallel_for(n, [&](int64_t task, int) { ++counts[task]; });
  }
  EXPECT_EQ(counts[0], 3000);
  EXPECT_EQ(counts[1], 3000);
  EXPECT_EQ(counts[2], 2250);
  EXPECT_EQ(counts[3], 1500);
  EXPECT_EQ(counts[4], 750);
}

TEST_P(ThreadPoolOfSize, AllocatesNothing) {
  ThreadPool pool(GetParam());
  std::vector<int64_t> squares(512);
  const auto square = [&](int64_t task, int) { squares[static_cast<size_t>(task)] = task * task; };
  pool.parallel_for(512, square);
  const int64_t before = test::allocation_count();
  for (int round = 0; round < 50; ++round) pool.parallel_for(512, square);
  EXPECT_EQ(test::allocation_count() - before, 0);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  EXPECT_GT(before, 0) << "nothing is counted";
#endif
  EXPECT_EQ(std::accumulate(squares.begin(), squares.end(), int64_t{0}), 44608256);  // 511 * 512 * 1023 / 6
}

TEST(ThreadPool, RefusesReentryAndWrongSizes) {
  for (const int n : {0, -1, 1025, 10000}) EXPECT_THROW(ThreadPool pool(n), Error) << n;
  ThreadPool pool(1);
  EXPECT_THROW(pool.parallel_for(2, [&](int64_t, int) { pool.parallel_for(1, [](int64_t, int) {}); }),
               CheckFailure);
  EXPECT_GE(ThreadPool::default_size(), 1);
}

}  // namespace
}  // namespace sepllm
