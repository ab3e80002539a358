// Ranks as threads of one process.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "base/error.h"
#include "train/comm.h"

namespace sepllm::test {

// Messages between threads, which arrive after a few polls.
struct Hub {
  explicit Hub(int n) : stopped(static_cast<size_t>(n)) {}
  struct Channel {
    std::deque<std::string> sent;  // from message `first` on
    size_t first = 0, n_sent = 0, n_asked = 0;
  };
  std::mutex mutex;
  std::map<std::tuple<int, int, int>, Channel> channels;  // keyed by from, to, tag
  std::vector<std::atomic<bool>> stopped;                 // ranks that hang
  std::atomic<int> broken = -1;                           // a rank whose transport fails
  std::atomic<bool> cut = false;                          // rank 2 gets no more data from rank 1
  std::atomic<int> slow = 0;                              // more polls that each message takes
};

class HubTransport : public Transport {
 public:
  HubTransport(Hub& hub, int rank) : hub_(hub), rank_(rank), random_(static_cast<unsigned>(rank)) {}
  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(hub_.stopped.size()); }
  Request send(const void* from, int64_t bytes, int to, int tag) override {
    const std::lock_guard lock(hub_.mutex);
    Hub::Channel& c = hub_.channels[{rank_, to, tag}];
    c.sent.emplace_back(static_cast<const char*>(from), static_cast<size_t>(bytes));
    return &open_.emplace_back(
        Open{nullptr, 0, to, tag, c.n_sent++, hub_.slow + static_cast<int>(random_() % 3)});
  }
  Request receive(void* to, int64_t bytes, int from, int tag) override {
    const std::lock_guard lock(hub_.mutex);
    Hub::Channel& c = hub_.channels[{from, rank_, tag}];
    return &open_.emplace_back(
        Open{to, bytes, from, tag, c.n_asked++, hub_.slow + static_cast<int>(random_() % 5)});
  }
  bool test(Request* request) override {
    while (hub_.stopped[static_cast<size_t>(rank_)] && !aborted_)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (hub_.broken == rank_) throw Error(ErrorCode::kIo, "the network is gone");
    auto* open = static_cast<Open*>(*request);
    if (open->delay-- > 0) return false;
    return open->to == nullptr || arrived(*open);
  }
  void leave() override {}
  void abort(int) override {
    for (auto& stopped : hub_.stopped) stopped = false;
    aborted_ = true;
  }

 private:
  struct Open {
    void* to;
    int64_t bytes;
    int partner, tag;
    size_t number;
    int delay;
  };
  bool arrived(const Open& open) {
    const std::lock_guard lock(hub_.mutex);
    Hub::Channel& c = hub_.channels[{open.partner, rank_, open.tag}];
    if (open.number >= c.n_sent) return false;
    if (hub_.cut && open.tag == 1 && open.partner == 1 && rank_ == 2) return false;
    const std::string& message = c.sent[open.number];
    EXPECT_EQ(static_cast<int64_t>(message.size()), open.bytes);
    std::copy(message.begin(), message.end(), static_cast<char*>(open.to));
    return true;
  }

  Hub& hub_;
  int rank_;
  std::deque<Open> open_;
  std::minstd_rand random_;
  std::atomic<bool> aborted_ = false;
};

// Runs fn(comm) on n ranks.
inline void on_ranks(int n, Hub& hub, const Comm::Options& options, const std::function<void(Comm&)>& fn) {
  std::vector<std::thread> threads;
  for (int r = 0; r < n; ++r) {
    threads.emplace_back([&, r] {
      Comm comm([&] { return std::make_unique<HubTransport>(hub, r); }, options);
      fn(comm);
    });
  }
  for (std::thread& t : threads) t.join();
}
inline void on_ranks(int n, const std::function<void(Comm&)>& fn) {
  Hub hub(n);
  on_ranks(n, hub, {}, [&](Comm& comm) {
    fn(comm);
    comm.leave();
  });
}

}  // namespace sepllm::test
