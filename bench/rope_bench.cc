// Rotary embedding: angles per second for the tables, bytes per second for the rotation.
#include <cmath>
#include <numeric>

#include "bench_support.h"
#include "kernels/rowwise/rope.h"

namespace sepllm {
namespace {

std::vector<double> frequencies(int64_t n) {
  std::vector<double> f;
  for (int64_t i = 0; i < n; ++i) {
    f.push_back(std::pow(10000.0, -static_cast<double>(i) / static_cast<double>(n)));
  }
  return f;
}

void BM_Tables(benchmark::State& state) {
  bench::Threads t(1);
  const std::vector<double> inv_freq = frequencies(64);
  std::vector<int64_t> positions(static_cast<size_t>(state.range(0)));
  std::iota(positions.begin(), positions.end(), 1'000'000);
  std::vector<float> cos(positions.size() * 64), sin(cos.size());
  for (auto _ : state) rope_tables(t.context, inv_freq, positions, cos.data(), sin.data());
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(cos.size()));
}
BENCHMARK(BM_Tables)->Arg(1)->Arg(512);

void BM_Rotate(benchmark::State& state) {
  constexpr int64_t kRows = 64;
  const int64_t n_freq = state.range(0);
  const auto pairing = state.range(1) != 0 ? RopePairing::kInterleaved : RopePairing::kHalf;
  bench::Threads t(1);
  const bench::Rows x(kRows, 64 * n_freq), cos(kRows, n_freq), sin(kRows, n_freq);
  // Rotates by one angle again and again: the values stay bounded.
  std::fill_n(cos.matrix.data, kRows * n_freq, 0.6F);
  std::fill_n(sin.matrix.data, kRows * n_freq, 0.8F);
  const Heads heads{x.matrix.data, x.matrix.stride, HeadLayout::dense(32, 2 * n_freq)};
  const RopeTables tables{n_freq, cos.matrix.data, sin.matrix.data};
  for (auto _ : state) rope_rotate(t.context, heads, heads, kRows, pairing, tables);
  bench::report_bytes(state, 8.0 * static_cast<double>(kRows * 64 * n_freq));
}
BENCHMARK(BM_Rotate)->ArgNames({"n_freq", "interleaved"})->ArgsProduct({{32, 64}, {0, 1}});

}  // namespace
}  // namespace sepllm

BENCHMARK_MAIN();
