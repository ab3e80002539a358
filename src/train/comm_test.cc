// Ranks as threads of one process: the sums, who owns what, and ranks that stop or fail.
#include "train/comm.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/sign_of_life.h"
#include "base/thread_pool.h"
#include "train/comm_test_support.h"
#include "train/shards.h"

namespace sepllm {
namespace {

using test::Hub;
using test::HubTransport;
using test::on_ranks;

std::vector<float> values_of(int rank, int64_t n, unsigned seed) {
  std::mt19937 random(seed * 100 + static_cast<unsigned>(rank));
  std::vector<float> out(static_cast<size_t>(n));
  for (float& x : out) x = std::normal_distribution<float>(0, 1)(random);
  return out;
}

TEST(Comm, PartsCoverAllAndBeginAtWholeGroups) {
  for (const int64_t n : {0, 1, 15, 16, 17, 100, 4096, 10001}) {
    for (int64_t ranks = 1; ranks <= 7; ++ranks) {
      int64_t end = 5, tasks = 0;
      for (int64_t r = 0; r < ranks; ++r) {
        const Part p = part_of({5, n}, r, ranks);
        EXPECT_EQ(p.begin, end);
        EXPECT_TRUE((p.begin - 5) % 16 == 0 || p.n == 0) << n;
        end = p.begin + p.n;
        EXPECT_EQ(share_of(n, r, ranks).begin, tasks);
        tasks += share_of(n, r, ranks).n;
        EXPECT_LE(std::abs(share_of(n, r, ranks).n - n / ranks), 1);
      }
      EXPECT_EQ(end, n + 5);
      EXPECT_EQ(tasks, n);
    }
  }
}

TEST(Comm, ShardsOfAllRanksAreTheBuffer) {
  for (const int64_t size : {16, 4096, 100'000, 265'600, 200'000'000}) {
    for (const int64_t ranks : {1, 2, 3, 8}) {
      int64_t owned = 0;
      for (int64_t r = 0; r < ranks; ++r) {
        int64_t end = 0, state = 0;
        const std::vector<Shard> shards = make_shards(size, r, ranks);
        for (const Shard& s : shards) {
          EXPECT_EQ(s.bucket.begin, end);
          EXPECT_EQ(s.state_begin, state);
          end += s.bucket.n;
          state += s.own.n;
        }
        EXPECT_EQ(end, size);
        EXPECT_EQ(state_size(shards), state);
        EXPECT_NEAR(static_cast<double>(state), static_cast<double>(size) / static_cast<double>(ranks),
                    16.0 * static_cast<double>(shards.size()));
        owned += state;
      }
      EXPECT_EQ(owned, size);
    }
  }
}

TEST(Comm, SumsInTheOrderOfTheRanks) {
  for (const int n_ranks : {1, 2, 3, 5}) {
    for (const int64_t n : {1, 17, 64, 5000, 100'003}) {
      std::vector<float> sum = values_of(0, n, 1);
      for (int r = 1; r < n_ranks; ++r) {
        const std::vector<float> more = values_of(r, n, 1);
        for (size_t i = 0; i < sum.size(); ++i) sum[i] += more[i];
      }
      on_ranks(n_ranks, [&](Comm& comm) {
        // Several at once, like buckets.
        std::vector<std::vector<float>> buckets(7, values_of(comm.rank(), n, 1));
        for (auto& b : buckets) comm.start_reduce_scatter(b);
        comm.wait();
        const Part own = part_of({0, n}, comm.rank(), comm.size());
        for (const auto& b : buckets) {
          for (int64_t i = own.begin; i < own.begin + own.n; ++i)
            ASSERT_EQ(b[static_cast<size_t>(i)], sum[static_cast<size_t>(i)]) << i;
        }
        for (auto& b : buckets) comm.start_all_gather(b);
        comm.wait();
        for (const auto& b : buckets) ASSERT_EQ(b, sum);
      });
    }
  }
}

TEST(Comm, AnOperationCanBeWaitedForBeforeLaterOnesEnd) {
  constexpr int64_t kRanks = 3, kOperations = 40;
  Hub hub(kRanks);
  hub.slow = 20;
  on_ranks(kRanks, hub, {}, [&](Comm& comm) {
    std::vector<std::vector<float>> arrays(kOperations, std::vector<float>(200, -1.0F));
    std::vector<int64_t> operations;
    for (int64_t k = 0; k < kOperations; ++k) {
      auto& a = arrays[static_cast<size_t>(k)];
      const Part own = part_of({0, std::ssize(a)}, comm.rank(), comm.size());
      std::fill_n(a.begin() + own.begin, own.n, static_cast<float>(k));
      operations.push_back(comm.start_all_gather(a));
    }
    const auto complete = [&](size_t k) {
      return arrays[k] == std::vector<float>(arrays[k].size(), static_cast<float>(k));
    };
    comm.wait_until(operations[1]);
    const double waited = comm.seconds_waited();
    EXPECT_TRUE(complete(0) && complete(1));
    comm.wait_until(operations[0]);  // has ended
    comm.wait_until(operations.back());
    EXPECT_GT(comm.seconds_waited(), waited);  // they take many times as long
    for (size_t k = 0; k < arrays.size(); ++k) EXPECT_TRUE(complete(k)) << k;
    comm.leave();
  });
}

TEST(Comm, NumbersTextsAndArrays) {
  for (const int n_ranks : {1, 2, 4}) {
    on_ranks(n_ranks, [&](Comm& comm) {
      const int r = comm.rank();
      double numbers[] = {1.0 + r, 1e16, r == 1 ? 1.0 : 0.0};
      comm.sum(numbers);
      EXPECT_EQ(numbers[0], n_ranks * (n_ranks + 1) / 2.0);
      EXPECT_TRUE(comm.any(r == n_ranks - 1));
      EXPECT_FALSE(comm.any(false));
      const auto texts = comm.all_texts(std::string(static_cast<size_t>(r) * 1000, 'x'));
      for (int other = 0; other < n_ranks; ++other)
        EXPECT_EQ(texts[static_cast<size_t>(other)].size(), static_cast<size_t>(other) * 1000);
      EXPECT_EQ(comm.broadcast(r == 0 ? "of rank 0" : "not this"), "of rank 0");
      std::vector<float> data(5'000'000), of_rank_0(data.size());  // more than one piece
      std::iota(data.begin(), data.end(), static_cast<float>(r));
      std::iota(of_rank_0.begin(), of_rank_0.end(), 0.0F);
      comm.broadcast(data);
      EXPECT_EQ(data, of_rank_0);
      const int64_t n = 1003;
      const Part own = part_of({0, n}, r, n_ranks);
      const std::vector<float> whole = values_of(0, n, 4);
      std::vector<float> part(static_cast<size_t>(own.n)), back(r == 0 ? 1003 : 0);
      comm.scatter(n, r == 0 ? whole.data() : nullptr, part.data());
      EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + own.begin));
      comm.gather(n, part.data(), back.data());
      if (r == 0) {
        EXPECT_EQ(back, whole);
      }
    });
  }
}

TEST(Comm, RanksOfOneMachineShareItsMemory) {
  on_ranks(3, [](Comm& comm) { EXPECT_EQ(comm.ranks_sharing_memory(), (std::vector<int>{0, 1, 2})); });
  EXPECT_EQ(Comm().ranks_sharing_memory(), std::vector<int>{0});
}

TEST(Comm, WhatFailsOnOneRankFailsOnAll) {
  on_ranks(3, [&](Comm& comm) {
    try {
      comm.run_or_fail_together([&] {
        if (comm.rank() == 2) throw Error(ErrorCode::kNotFound, "no such file");
      });
      ADD_FAILURE();
    } catch (const SharedFailure& e) {
      EXPECT_NE(std::string(e.what()).find("rank 2 ("), std::string::npos) << e.what();
      EXPECT_NE(std::string(e.what()).find("no such file"), std::string::npos);
    }
    comm.run_or_fail_together([] {});  // and continue
  });
}

TEST(Comm, ARankThatStandsStillIsNamedByAllOthers) {
  for (const int stopped : {0, 1, 2}) {
    Hub hub(3);
    std::mutex mutex;
    std::vector<std::string> lost;
    const Comm::Options options{.on_lost =
                                    [&](const std::string& what) {
                                      const std::lock_guard lock(mutex);
                                      lost.push_back(what);
                                    },
                                .timeout = 0.4};
    std::atomic<int> ended = 0;
    on_ranks(3, hub, options, [&](Comm& comm) {
      if (comm.rank() == stopped) {
        while (ended == 0) {
          hub.stopped[static_cast<size_t>(stopped)] = true;
          std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
        return;
      }
      EXPECT_THROW((void)comm.any(true), Error);  // it waits for the rank that hangs
      ++ended;
    });
    ASSERT_GE(lost.size(), 1U);
    EXPECT_NE(lost[0].find("rank " + std::to_string(stopped)), std::string::npos) << lost[0];
    EXPECT_NE(lost[0].find("not answered"), std::string::npos) << lost[0];
  }
}

// The message about a lost rank, from whichever rank reported it.
class Lost {
 public:
  Comm::Options options(double timeout) {
    return {.on_lost =
                [this](const std::string& what) {
                  const std::lock_guard lock(mutex_);
                  said_.push_back(what);
                },
            .timeout = timeout};
  }
  std::vector<std::string> said() {
    const std::lock_guard lock(mutex_);
    return said_;
  }

 private:
  std::mutex mutex_;
  std::vector<std::string> said_;
};

void pause(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }

TEST(Comm, ARankWhoseCallerStandsStillSaysSo) {
  for (const int standing : {0, 2}) {
    Hub hub(3);
    Lost lost;
    on_ranks(3, hub, lost.options(1), [&](Comm& comm) {
      if (comm.rank() == standing) {
        comm.set_activity("computing step", 12);
        while (lost.said().empty()) pause(0.01);
        return;
      }
      EXPECT_THROW((void)comm.any(true), Error);
    });
    ASSERT_GE(lost.said().size(), 1U);
    const std::string text = lost.said()[0];
    EXPECT_NE(text.find("rank " + std::to_string(standing)), std::string::npos) << text;
    EXPECT_NE(text.find("no progress for 1 seconds while computing step 12"), std::string::npos) << text;
  }
}

TEST(Comm, AThreadOfThePoolThatStandsStillHoldsItsRank) {
  Hub hub(2);
  Lost lost;
  on_ranks(2, hub, lost.options(1), [&](Comm& comm) {
    if (comm.rank() == 0) {
      EXPECT_THROW((void)comm.any(true), Error);
      return;
    }
    comm.set_activity("computing step", 3);
    ThreadPool pool(3);
    std::atomic<int> done = 0;
    pool.parallel_for(50, [&](int64_t task, int) {
      while (task == 20 && lost.said().empty()) pause(0.01);
      ++done;  // the others continue to the end
    });
    EXPECT_EQ(done, 50);
  });
  ASSERT_GE(lost.said().size(), 1U);
  EXPECT_NE(lost.said()[0].find("rank 1"), std::string::npos);
  EXPECT_NE(lost.said()[0].find("no progress for 1 seconds while computing step 3"), std::string::npos)
      << lost.said()[0];
}

TEST(Comm, OthersSayItWhereTheRankCannot) {
  Hub hub(2);
  Lost lost;
  std::atomic<bool> can_speak = false;
  std::vector<std::thread> ranks;
  for (int r = 0; r < 2; ++r) {
    ranks.emplace_back([&, r] {
      Comm::Options options = lost.options(1);
      if (r == 1) {
        options.on_lost = [&](const std::string&) {
          while (!can_speak) pause(0.01);
        };
      }
      Comm comm([&] { return std::make_unique<HubTransport>(hub, r); }, options);
      if (r == 0) {
        EXPECT_THROW((void)comm.any(true), Error);
        can_speak = true;
      } else {
        comm.set_activity("saving");
        while (!can_speak) pause(0.01);
      }
    });
  }
  for (std::thread& t : ranks) t.join();
  ASSERT_GE(lost.said().size(), 1U);
  EXPECT_NE(lost.said()[0].find("rank 1"), std::string::npos);
  EXPECT_NE(lost.said()[0].find("no progress for 1 seconds while saving"), std::string::npos)
      << lost.said()[0];
}

TEST(Comm, SlowWorkAndWaitingForItAreNoFault) {
  Hub hub(3);
  Lost lost;
  on_ranks(3, hub, lost.options(1), [&](Comm& comm) {
    for (int round = 0; round < 2; ++round) {
      // Several times the limit, but with progress; the others wait.
      for (int i = 0; comm.rank() == round && i < 50; ++i) {
        pause(0.05);
        sign_of_life();
      }
      EXPECT_EQ(comm.any(comm.rank() == round), true);
    }
    comm.leave();
  });
  EXPECT_EQ(lost.said(), std::vector<std::string>());
}

TEST(Comm, RanksThatAllWaitForEachOtherEnd) {
  Hub hub(3);
  Lost lost;
  on_ranks(3, hub, lost.options(1), [&](Comm& comm) {
    EXPECT_THROW(
        {
          for (;;) {
            (void)comm.any(true);
            hub.cut = true;  // heartbeats go by way of rank 0
          }
        },
        Error);
  });
  ASSERT_GE(lost.said().size(), 1U);
  EXPECT_NE(lost.said()[0].find("all ranks wait for each other"), std::string::npos) << lost.said()[0];
}

TEST(Comm, ABrokenNetworkEndsTheWait) {
  Hub hub(2);
  std::atomic<int> lost = 0;
  const Comm::Options options{.on_lost = [&](const std::string&) { ++lost; }, .timeout = 0.5};
  on_ranks(2, hub, options, [&](Comm& comm) {
    EXPECT_THROW(
        {
          for (;;) {
            (void)comm.any(true);
            if (comm.rank() == 0) hub.broken = 1;  // both have begun
          }
        },
        Error);
  });
  EXPECT_GE(lost, 1);
}

}  // namespace
}  // namespace sepllm
