// Shared by the benchmarks: a context of n threads, random operands, and the two rates that figures are
// compared with.
#pragma once

#include <benchmark/benchmark.h>

#include <cstdint>
#include <random>
#include <vector>

#include "kernels/formats/element.h"
#include "tensor/buffer.h"
#include "tensor/context.h"
#include "tensor/matrix.h"

namespace sepllm::bench {

struct Threads {
  explicit Threads(int n) : pool(n), context{pool, arena} {}
  ThreadPool pool;
  Arena arena;
  Context context;
};

inline Buffer random_stored(DType type, int64_t n, uint32_t seed = 1) {
  std::mt19937 rng(seed);
  const float most = type == DType::kI8 ? 127.0F : 1.0F;
  std::uniform_real_distribution<float> value(-most, most);
  Buffer buffer(n * dtype_size(type));
  float recent[257];
  for (float& v : recent) v = value(rng);
  for (int64_t i = 0; i < n; ++i) store_element(type, buffer.data(), i, recent[i % 257]);
  return buffer;
}

struct Rows {
  Rows(int64_t n_rows, int64_t n_cols)
      : buffer(random_stored(DType::kF32, n_rows * n_cols)),
        matrix{buffer.as<float>(), n_rows, n_cols, n_cols} {}
  Buffer buffer;
  Matrix matrix;
};

// Multiply-adds x 2 per second, as GFLOP/s.
inline void report_flops(benchmark::State& state, double flops_per_iteration) {
  state.counters["GFLOP/s"] = benchmark::Counter(
      flops_per_iteration * static_cast<double>(state.iterations()) * 1e-9, benchmark::Counter::kIsRate);
}
// Bytes read or written per second, as GB/s.
inline void report_bytes(benchmark::State& state, double bytes_per_iteration) {
  state.counters["GB/s"] = benchmark::Counter(
      bytes_per_iteration * static_cast<double>(state.iterations()) * 1e-9, benchmark::Counter::kIsRate);
}

}  // namespace sepllm::bench
