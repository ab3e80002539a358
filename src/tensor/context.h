// What every operator and kernel needs next to its operands: threads and scratch memory.
#pragma once

#include "base/thread_pool.h"
#include "tensor/arena.h"

namespace sepllm {

// Which attention kernel runs: the fast one, or the plain one in double precision for comparison.
enum class AttentionImpl { kSimd, kReference };

// How products with 8- and 4-bit weights are computed: in integers, for which activations are rounded to 8
// bits in blocks of 32 (relative error about 4e-3), or exactly, as f32. So is decoding over int8 keys.
enum class BlockProducts { kInteger, kExact };

// How products of many rows with floating-point weights are computed: as f32, or with both operands rounded
// to bf16 and sums in f32 (training in mixed precision). The second where the processor has such products
// (kernels/cpu_features.h: cpu_has_bf16_products); elsewhere it is the first.
enum class FloatProducts { kF32, kBF16 };

class Tape;
struct OpTimes;

struct Context {
  ThreadPool& pool;
  Arena& arena;  // kernels release what they take
  AttentionImpl attention = AttentionImpl::kSimd;
  BlockProducts block_products = BlockProducts::kInteger;
  FloatProducts float_products = FloatProducts::kF32;
  // Where the ops record their backward (tensor/tape.h); null: inference. Kernels do not look at it.
  Tape* tape = nullptr;
  // Where the ops add up the seconds that they take (tensor/op_times.h); null: times are not taken.
  OpTimes* times = nullptr;
};

}  // namespace sepllm
