// Parallel loops that wake the threads only if there is enough work.
#pragma once

#include <cstdint>

#include "tensor/context.h"

namespace sepllm {

// With less work than this (multiply-adds or elements moved, roughly 10 microseconds), the calling thread
// does all of it, because waking others would cost more. Results never depend on it: the tasks are the same.
inline constexpr int64_t kSerialWork = 64 * 1024;

template <typename Fn>
void parallel_for(const Context& ctx, int64_t n_tasks, int64_t work, const Fn& fn) {
  if (work < kSerialWork) {
    for (int64_t t = 0; t < n_tasks; ++t) fn(t, 0);
  } else {
    ctx.pool.parallel_for(n_tasks, fn);
  }
}

// Splits [0, n) into blocks of `block` (the last may be shorter) and calls fn(begin, end, worker).
template <typename Fn>
void parallel_blocks(const Context& ctx, int64_t n, int64_t block, int64_t work, const Fn& fn) {
  const int64_t n_blocks = (n + block - 1) / block;
  parallel_for(ctx, n_blocks, work, [&](int64_t t, int worker) {
    const int64_t begin = t * block;
    fn(begin, begin + block < n ? begin + block : n, worker);
  });
}

}  // namespace sepllm
