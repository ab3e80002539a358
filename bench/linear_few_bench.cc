// y = x W^T for few rows and all types of blocks, by the fastest walk of this machine (as choose_walks()
// would find it): bytes of weights read per second, and their share of the machine's read rate, measured in
// turns in the same loop. The weights are larger than caches.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <vector>

#include "bench_support.h"
#include "kernels/cpu_features.h"
#include "kernels/formats/block_matrix_test_support.h"
#include "kernels/linear/linear.h"
#include "kernels/linear/walk_probe.h"
#include "kernels/machine_rates.h"

namespace sepllm {
namespace {

constexpr int64_t kIn = 2048, kOut = 131072;  // 144 to 272 MiB

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double median(std::vector<double> v) {
  std::nth_element(v.begin(), v.begin() + static_cast<int64_t>(v.size() / 2), v.end());
  return v[v.size() / 2];
}

enum Way { kAsUsual, kExact, kWithoutVnni };

// A matrix of one random panel, over and over.
Buffer repeated_panel(DType type) {
  const test::BlockMatrix one(type, kPanelOutputs, kIn, 1);
  const int64_t bytes = panel_bytes(type, kIn);
  Buffer panels(panels_bytes(type, kOut, kIn));
  for (int64_t p = 0; p < n_panels(kOut); ++p)
    std::memcpy(panels.as<char>() + p * bytes, one.panels.data(), static_cast<size_t>(bytes));
  return panels;
}

void BM_LinearFew(benchmark::State& state) {
  const int64_t n_rows = state.range(0);
  const auto type = static_cast<DType>(state.range(1));
  const auto way = static_cast<Way>(state.range(2));
  bench::Threads t(static_cast<int>(state.range(3)));
  if (way == kExact) t.context.block_products = BlockProducts::kExact;
  if (way == kWithoutVnni) allow_cpu_features(0);
  const Buffer panels = repeated_panel(type);
  Weight w{.type = type, .data = panels.data(), .n_out = kOut, .n_in = kIn};
  w.walk = fastest_walk(measure_walks(t.context, {&w, 1}, 0.5)).walk;
  ReadProbe probe(t.context, panels.bytes());
  const bench::Rows x(n_rows, kIn), y(n_rows, kOut);
  std::vector<double> rates, reads;
  for (auto _ : state) {
    const double begin = seconds();
    linear(t.context, x.matrix, w, nullptr, y.matrix);
    const double took = seconds() - begin;
    state.SetIterationTime(took);
    rates.push_back(static_cast<double>(panels.bytes()) / took);
    reads.push_back(probe.measure(t.context));
  }
  allow_cpu_features(kAllCpuFeatures);
  state.counters["GB/s"] = median(rates) * 1e-9;
  state.counters["of read rate"] = median(rates) / median(reads);
  state.counters["streams"] = w.walk.streams;
  state.counters["ahead"] = w.walk.ahead;
  state.SetLabel(dtype_name(type));
}
std::vector<int64_t> panel_types() {
  std::vector<int64_t> out;
  for (const DType type : kPanelTypes) out.push_back(static_cast<int64_t>(type));
  return out;
}
BENCHMARK(BM_LinearFew)
    ->ArgNames({"rows", "type", "way", "threads"})
    ->ArgsProduct({{1}, panel_types(), {kAsUsual, kExact, kWithoutVnni}, {1, 2}})
    ->ArgsProduct({{2, 4, 8, 16}, panel_types(), {kAsUsual}, {1, 2}})
    ->UseManualTime();

}  // namespace
}  // namespace sepllm

BENCHMARK_MAIN();
