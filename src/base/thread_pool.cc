#include "base/thread_pool.h"

#include <sched.h>

#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "base/check.h"
#include "base/error.h"

namespace sepllm {
namespace {

using Task = FunctionRef<void(int64_t, int)>;
// Loops of a decode step follow each other within microseconds: a short spin saves the sleep and the wake-up.
constexpr int kSpins = 4000;

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

struct ThreadPool::Impl {
  std::vector<std::thread> threads;
  std::mutex mutex;
  std::condition_variable wake;
  std::condition_variable finished;
  std::optional<Task> task;  // written before `generation` changes
  int64_t n_tasks = 0;
  std::atomic<int64_t> next{0};
  std::atomic<int> busy{0};  // workers that have not yet left the current loop
  std::atomic<uint64_t> generation{0};
  std::atomic<bool> stop{false};
  std::atomic<bool> failed{false};
  std::exception_ptr exception;  // guarded by mutex
  bool running = false;          // a loop is under way (caller's thread only)

  void drain(int worker) {
    for (;;) {
      const int64_t t = next.fetch_add(1, std::memory_order_relaxed);
      if (t >= n_tasks || failed.load(std::memory_order_relaxed)) return;
      try {
        (*task)(t, worker);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!exception) exception = std::current_exception();
        failed = true;
      }
    }
  }

  void work(int worker) {
    uint64_t seen = 0;
    for (;;) {
      for (int k = 0; k < kSpins && generation.load(std::memory_order_acquire) == seen && !stop; ++k) relax();
      if (generation.load(std::memory_order_acquire) == seen) {
        std::unique_lock lock(mutex);
        wake.wait(lock, [&] { return stop || generation.load(std::memory_order_acquire) != seen; });
      }
      if (stop) return;
      seen = generation.load(std::memory_order_acquire);
      drain(worker);
      if (busy.fetch_sub(1, std::memory_order_acq_rel) == 1) {
        const std::lock_guard lock(mutex);
        finished.notify_one();
      }
    }
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

ThreadPool::~ThreadPool() { impl_->join(); }

int ThreadPool::size() const { return static_cast<int>(impl_->threads.size()) + 1; }

void ThreadPool::parallel_for(int64_t n_tasks, Task fn) {
  Impl& p = *impl_;
  SEPLLM_CHECK(!p.running);
  if (n_tasks <= 0) return;
  if (p.threads.empty() || n_tasks == 1) {
    p.running = true;
    struct Reset {
      bool& flag;
      ~Reset() { flag = false; }
    } reset{p.running};
    for (int64_t t = 0; t < n_tasks; ++t) fn(t, 0);
    return;
  }
  p.running = true;
  p.task = fn;
  p.n_tasks = n_tasks;
  p.next = 0;
  p.failed = false;
  p.busy = static_cast<int>(p.threads.size());
  {
    const std::lock_guard lock(p.mutex);
    p.generation.fetch_add(1, std::memory_order_release);
  }
  p.wake.notify_all();
  p.drain(0);
  for (int k = 0; k < kSpins && p.busy.load(std::memory_order_acquire) != 0; ++k) relax();
  if (p.busy.load(std::memory_order_acquire) != 0) {
    std::unique_lock lock(p.mutex);
    p.finished.wait(lock, [&] { return p.busy.load(std::memory_order_acquire) == 0; });
  }
  p.running = false;
  std::exception_ptr exception;
  {
    const std::lock_guard lock(p.mutex);
    std::swap(exception, p.exception);
  }
  if (exception) std::rethrow_exception(exception);
}

int ThreadPool::default_size() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) {
    const int n = CPU_COUNT(&set);
    if (n >= 1) return n;
  }
  return static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
}

}  // namespace sepllm
