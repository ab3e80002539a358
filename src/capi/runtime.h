// Threads and scratch memory, which sessions share by turns.
#pragma once

#include <sepllm/sepllm.h>

#include <memory>
#include <mutex>

#include "base/thread_pool.h"
#include "tensor/arena.h"
#include "tensor/context.h"

namespace sepllm::capi {

class Runtime {
 public:
  explicit Runtime(int n_threads) : pool_(n_threads > 0 ? n_threads : ThreadPool::default_size()) {}

  Context context(BlockProducts products = BlockProducts::kInteger) {
    return {.pool = pool_, .arena = arena_, .block_products = products};
  }
  // A pass holds it. A callback within a pass may compute something else on the same runtime.
  std::recursive_mutex& mutex() { return mutex_; }
  int size() const { return pool_.size(); }

 private:
  ThreadPool pool_;
  Arena arena_;
  std::recursive_mutex mutex_;
};
using Turn = std::lock_guard<std::recursive_mutex>;

}  // namespace sepllm::capi

struct sepllm_runtime {
  std::shared_ptr<sepllm::capi::Runtime> shared;
};
