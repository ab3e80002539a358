// Activations and residual additions (elements per second), stores and NLL (bytes per second).
#include "bench_support.h"
#include "kernels/rowwise/elementwise.h"

namespace sepllm {
namespace {

constexpr int64_t kRows = 16;
constexpr int64_t kCols = 4096;

// Includes a copy of the input, without which the values would wander.
void BM_ActivateGated(benchmark::State& state) {
  bench::Threads t(1);
  const bench::Rows source(kRows, kCols), x(kRows, kCols), up(kRows, kCols);
  for (auto _ : state) {
    std::copy_n(source.matrix.data, kRows * kCols, x.matrix.data);
    activate_gated(t.context, static_cast<Activation>(state.range(0)), x.matrix, up.matrix);
  }
  state.SetItemsProcessed(state.iterations() * kRows * kCols);
}
BENCHMARK(BM_ActivateGated)->ArgName("function")->DenseRange(0, 3);

void BM_Add(benchmark::State& state) {
  bench::Threads t(1);
  const bench::Rows x(kRows, kCols), y(kRows, kCols);
  std::fill_n(y.matrix.data, kRows * kCols, 0.0F);
  for (auto _ : state) add(t.context, x.matrix, y.matrix);
  bench::report_bytes(state, 12.0 * kRows * kCols);
}
BENCHMARK(BM_Add);

void BM_StoreRows(benchmark::State& state) {
  const auto type = static_cast<DType>(state.range(0));
  bench::Threads t(1);
  const bench::Rows x(kRows, kCols);
  const Buffer to(kRows * kCols * 4);
  std::vector<void*> rows;
  for (int64_t r = 0; r < kRows; ++r) rows.push_back(to.as<char>() + r * kCols * dtype_size(type));
  const Heads heads{x.matrix.data, x.matrix.stride, HeadLayout::dense(32, 128)};
  const StoredRows stored{.type = type, .rows = rows.data(), .head_stride = 128};
  for (auto _ : state) store_rows(t.context, heads, kRows, stored);
  bench::report_bytes(state, static_cast<double>(kRows * kCols * (4 + dtype_size(type))));
}
BENCHMARK(BM_StoreRows)->ArgName("type")->DenseRange(0, 2);

void BM_Nll(benchmark::State& state) {
  bench::Threads t(1);
  const bench::Rows logits(4, 128'256);
  const std::vector<int32_t> targets(4, 77);
  double out[4];
  for (auto _ : state) nll_rows(t.context, logits.matrix, targets, out);
  bench::report_bytes(state, 4.0 * 4 * 128'256);
}
BENCHMARK(BM_Nll);

}  // namespace
}  // namespace sepllm

BENCHMARK_MAIN();
