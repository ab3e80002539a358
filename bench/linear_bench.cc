// y = x W^T. Compare rows of one token with the read bandwidth, and many rows with the sgemm rate (the first
// two rows of the output, from the same run).
#include <cblas.h>
#include <hwy/highway.h>

#include "bench_support.h"
#include "kernels/linear/linear.h"

namespace sepllm {
namespace {

// The sum of 1 GiB with four streams per thread: the read bandwidth of the memory.
void BM_ReadBandwidth(benchmark::State& state) {
  constexpr int64_t kFloats = int64_t{1} << 28;
  bench::Threads t(static_cast<int>(state.range(0)));
  const Buffer buffer(kFloats * 4);
  const int64_t quarter = kFloats / 4 / t.pool.size();
  using Vector __attribute__((vector_size(32), may_alias)) = float;
  for (auto _ : state) {
    t.pool.parallel_for(t.pool.size(), [&](int64_t task, int) {
      Vector sums[4] = {};
      const float* begin = buffer.as<float>() + task * 4 * quarter;
      for (int64_t i = 0; i + 16 <= quarter; i += 16) {
        for (int s = 0; s < 4; ++s) {
          const auto* p = reinterpret_cast<const Vector*>(begin + s * quarter + i);
          sums[s] += p[0] + p[1];
        }
      }
      benchmark::DoNotOptimize(sums);
    });
  }
  bench::report_bytes(state, kFloats * 4.0);
}
BENCHMARK(BM_ReadBandwidth)->Arg(1)->Arg(2)->UseRealTime();

void BM_Sgemm(benchmark::State& state) {
  const auto n = static_cast<int>(state.range(0));
  openblas_set_num_threads(1);
  const bench::Rows a(n, n), b(n, n), c(n, n);
  for (auto _ : state) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, n, n, n, 1.0F, a.matrix.data, n, b.matrix.data, n,
                0.0F, c.matrix.data, n);
  }
  bench::report_flops(state, 2.0 * n * n * n);
}
BENCHMARK(BM_Sgemm)->Arg(1024)->UseRealTime();

void BM_Linear(benchmark::State& state) {
  const int64_t n_rows = state.range(0), n_in = state.range(1), n_out = state.range(2);
  const auto type = static_cast<DType>(state.range(3));
  const bool transposed = state.range(4) != 0;
  bench::Threads t(static_cast<int>(state.range(5)));
  const Buffer w = bench::random_stored(type, n_in * n_out);
  const bench::Rows x(n_rows, n_in), y(n_rows, n_out);
  const Weight weight{type, w.data(), n_out, n_in, transposed ? n_out : n_in, transposed};
  for (auto _ : state) linear(t.context, x.matrix, weight, nullptr, y.matrix);
  bench::report_flops(state, 2.0 * static_cast<double>(n_rows * n_in * n_out));
  bench::report_bytes(state, static_cast<double>(n_in * n_out * dtype_size(type)));
}
// For decoding: 16384 x 4096 does not fit any cache level below L3.
BENCHMARK(BM_Linear)
    ->ArgNames({"rows", "in", "out", "type", "transposed", "threads"})
    ->ArgsProduct({{1}, {4096}, {65536}, {0, 1, 2}, {0}, {1, 2}})
    ->ArgsProduct({{1}, {4096}, {65536}, {2}, {1}, {1, 2}})
    ->ArgsProduct({{2, 4, 8}, {4096}, {65536}, {2}, {0}, {1}})
    ->ArgsProduct({{4, 8, 9, 16, 32, 64, 512}, {2048}, {2048}, {0, 2}, {0, 1}, {1}})
    ->ArgsProduct({{512}, {2048}, {2048}, {0, 2}, {0}, {2}})
    ->UseRealTime();

}  // namespace
}  // namespace sepllm

BENCHMARK_MAIN();
