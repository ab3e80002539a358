// A fixed set of threads that share the tasks of one loop at a time.
#pragma once

#include <cstdint>
#include <memory>

#include "base/function_ref.h"

namespace sepllm {

class ThreadPool {
 public:
  // `n_threads` in [1, 1024], the calling thread included (so n_threads - 1 are started). Error otherwise, or
  // where the system refuses a thread.
  explicit ThreadPool(int n_threads);
  // A pool whose size() is that many threads, but whose loops run no tasks: for planning how much memory a
  // computation would need (train/train_plan.h).
  struct Idle {
    int n_threads;
  };
  explicit ThreadPool(Idle idle);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const;

  // Calls fn(task, worker) once for each task in [0, n_tasks), with worker in [0, size()), and returns when
  // all are done. Which worker takes which task is not fixed: results must not depend on it. The first
  // exception (in time) is rethrown here; tasks that have not started are dropped. Not reentrant: a task must
  // not call parallel_for of the same pool. Allocates nothing.
  void parallel_for(int64_t n_tasks, FunctionRef<void(int64_t task, int worker)> fn);

  // The number of threads that this process may use: its CPU affinity, and the CPU quota of its control
  // groups (base/cgroup.h: a quota of 1.5 CPUs is 1 thread).
  static int default_size();
  // The same by the affinity only.
  static int affinity_size();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sepllm
