// Normalisation of rows: bytes read and written per second.
#include "bench_support.h"
#include "kernels/rowwise/norm.h"

namespace sepllm {
namespace {

void BM_RmsNorm(benchmark::State& state) {
  bench::Threads t(1);
  const bench::Rows x(state.range(0), state.range(1)), y(state.range(0), state.range(1)),
      weight(1, state.range(1));
  for (auto _ : state) rms_norm(t.context, x.matrix, weight.matrix.data, 1e-5F, y.matrix);
  bench::report_bytes(state, 8.0 * static_cast<double>(state.range(0) * state.range(1)));
}
BENCHMARK(BM_RmsNorm)->ArgNames({"rows", "cols"})->ArgsProduct({{1, 64}, {768, 4096}});

void BM_LayerNorm(benchmark::State& state) {
  bench::Threads t(1);
  const bench::Rows x(state.range(0), state.range(1)), y(state.range(0), state.range(1)),
      weight(1, state.range(1));
  for (auto _ : state) {
    layer_norm(t.context, x.matrix, weight.matrix.data, weight.matrix.data, 1e-5F, y.matrix);
  }
  bench::report_bytes(state, 8.0 * static_cast<double>(state.range(0) * state.range(1)));
}
BENCHMARK(BM_LayerNorm)->ArgNames({"rows", "cols"})->ArgsProduct({{1, 64}, {768, 4096}});

}  // namespace
}  // namespace sepllm

BENCHMARK_MAIN();
