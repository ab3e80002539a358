// What a kernel needs beside its operands: threads and scratch memory.
#pragma once

#include "base/thread_pool.h"
#include "tensor/arena.h"

namespace sepllm {

// Which attention kernel runs: the fast one, or the plain one in double precision to compare with.
enum class AttentionImpl { kSimd, kReference };

struct Context {
  ThreadPool& pool;
  Arena& arena;  // kernels release what they take
  AttentionImpl attention = AttentionImpl::kSimd;
};

}  // namespace sepllm
