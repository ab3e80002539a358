#include "base/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "base/cgroup.h"
#include "base/check.h"
#include "base/error.h"
#include "base/sign_of_life.h"

namespace sepllm {
namespace {

using Task = FunctionRef<void(int64_t, int)>;
// The loops of a decode step follow each other within microseconds: a short spin saves sleeping and waking
// up.
constexpr int kSpins = 4000;
// Loops of many tasks (a row each, say) give several of them to a thread at once: taking one costs about a
// hundred nanoseconds when all threads do, more than copying a short row takes.
constexpr int64_t kPiecesOfThread = 32;
constexpr size_t kLineBytes = 64;

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

// A loop is open while there are tasks to take. A worker joins a loop that it finds open, and the caller
// waits only for those that have joined: it does not wait for one that is asleep or whose processor runs
// another program.
struct ThreadPool::Impl {
  std::vector<std::thread> threads;
  std::mutex mutex;
  std::condition_variable wake;
  std::condition_variable finished;
  // written while no loop is open and no worker is in one; the same holds for n_tasks and at_once
  std::optional<Task> task;
  int64_t n_tasks = 0, at_once = 1;
  // On a line of its own, because all threads write it again and again.
  alignas(kLineBytes) std::atomic<int64_t> next{0};
  // A worker enters, then looks whether the loop is open; the caller closes the loop, then looks who is
  // inside. All threads see these steps in one order (seq_cst), so at least one of the two sees the other.
  alignas(kLineBytes) std::atomic<bool> open{false};
  std::atomic<int> inside{0};
  std::atomic<uint64_t> generation{0};
  std::atomic<int> asleep{0};  // in the same way: counted before the last look at `generation`
  std::atomic<bool> caller_asleep{false};
  std::atomic<bool> stop{false};
  std::atomic<bool> failed{false};
  std::exception_ptr exception;  // guarded by mutex
  bool running = false;          // a loop is running (caller's thread only)
  int idle_size = 0;             // the size of a pool that runs nothing

  void drain(int worker) {
    for (;;) {
      const int64_t first = next.fetch_add(at_once, std::memory_order_relaxed);
      if (first >= n_tasks) return;
      for (int64_t t = first; t < std::min(n_tasks, first + at_once); ++t) {
        if (failed.load(std::memory_order_relaxed)) return;
        sign_of_life();
        try {
          (*task)(t, worker);
        } catch (...) {
          const std::lock_guard lock(mutex);
          if (!exception) exception = std::current_exception();
          failed = true;
        }
      }
    }
  }

  void work(int worker) {
    uint64_t seen = 0;
    for (;;) {
      for (int k = 0; k < kSpins && generation.load() == seen && !stop; ++k) relax();
      if (generation.load() == seen) sleep_until_after(seen);
      if (stop) return;
      seen = generation.load();
      inside.fetch_add(1);
      if (open.load()) drain(worker);
      if (inside.fetch_sub(1) == 1 && caller_asleep.load()) {
        const std::lock_guard lock(mutex);
        finished.notify_one();
      }
    }
  }

  void sleep_until_after(uint64_t seen) {
    std::unique_lock lock(mutex);
    asleep.fetch_add(1);
    wake.wait(lock, [&] { return stop || generation.load() != seen; });
    asleep.fetch_sub(1);
  }

  void begin() {
    open.store(true);
    generation.fetch_add(1);
    if (asleep.load() == 0) return;
    { const std::lock_guard lock(mutex); }  // a thread that counted itself as asleep is waiting by now
    wake.notify_all();
  }

  void end() {
    open.store(false);
    for (int k = 0; k < kSpins && inside.load() != 0; ++k) relax();
    if (inside.load() == 0) return;
    std::unique_lock lock(mutex);
    caller_asleep.store(true);
    finished.wait(lock, [&] { return inside.load() == 0; });
    caller_asleep.store(false);
  }

  void join() {
    {
      const std::lock_guard lock(mutex);
      stop = true;
    }
    wake.notify_all();
    for (std::thread& t : threads) t.join();
  }
};

ThreadPool::ThreadPool(int n_threads) : impl_(std::make_unique<Impl>()) {
  if (n_threads < 1 || n_threads > 1024) {
    throw Error(ErrorCode::kInvalidArgument, "number of threads out of range",
                {.place = "threads", .expected = "1 to 1024", .got = std::to_string(n_threads)});
  }
  try {
    for (int w = 1; w < n_threads; ++w) impl_->threads.emplace_back([this, w] { impl_->work(w); });
  } catch (const std::system_error& e) {
    impl_->join();
    throw Error(ErrorCode::kOutOfRange, std::string("cannot start a thread: ") + e.what(),
                {.place = "threads"});
  }
}

ThreadPool::ThreadPool(Idle idle) : impl_(std::make_unique<Impl>()) {
  SEPLLM_CHECK(idle.n_threads >= 1);
  impl_->idle_size = idle.n_threads;
}

ThreadPool::~ThreadPool() { impl_->join(); }

int ThreadPool::size() const {
  return impl_->idle_size > 0 ? impl_->idle_size : static_cast<int>(impl_->threads.size()) + 1;
}

void ThreadPool::parallel_for(int64_t n_tasks, Task fn) {
  Impl& p = *impl_;
  SEPLLM_CHECK(!p.running);
  if (n_tasks <= 0 || p.idle_size > 0) return;
  if (p.threads.empty() || n_tasks == 1) {
    p.running = true;
    struct Reset {
      bool& flag;
      ~Reset() { flag = false; }
    } reset{p.running};
    for (int64_t t = 0; t < n_tasks; ++t) {
      sign_of_life();
      fn(t, 0);
    }
    return;
  }
  p.running = true;
  p.task = fn;
  p.n_tasks = n_tasks;
  p.at_once = std::max<int64_t>(1, n_tasks / (kPiecesOfThread * size()));
  p.next = 0;
  p.failed = false;
  p.begin();
  p.drain(0);
  p.end();
  p.running = false;
  std::exception_ptr exception;
  {
    const std::lock_guard lock(p.mutex);
    std::swap(exception, p.exception);
  }
  if (exception) std::rethrow_exception(exception);
}

int ThreadPool::default_size() { return threads_within(affinity_size(), read_group_limits().cpus); }

int ThreadPool::affinity_size() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) {
    const int n = CPU_COUNT(&set);
    if (n >= 1) return n;
  }
  return static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
}

}  // namespace sepllm
