// What every operator and kernel needs next to its operands: threads and scratch memory.
#pragma once

#include "base/thread_pool.h"
#include "tensor/arena.h"

namespace sepllm {

// Which attention kernel runs: the fast one, or the plain one in double precision for comparison.
enum class AttentionImpl { kSimd, kReference };

// How products with 8- and 4-bit weights are computed: in integers, for which activations are rounded to 8
// bits in blocks of 32 (relative error about 4e-3), or exactly, from the weights as f32.
enum class BlockProducts { kInteger, kExact };

class Tape;
struct OpTimes;

struct Context {
  ThreadPool& pool;
  Arena& arena;  // kernels release what they take
  AttentionImpl attention = AttentionImpl::kSimd;
  BlockProducts block_products = BlockProducts::kInteger;
  // Where the ops record their backward (tensor/tape.h); null: inference. Kernels do not look at it.
  Tape* tape = nullptr;
  // Where the ops add up the seconds that they take (tensor/op_times.h); null: times are not taken.
  OpTimes* times = nullptr;
};

}  // namespace sepllm
