// y = x W^T for many rows and every type of weights, compared with plain f32 sgemm of the same shape on as
// many threads (each with its share of the outputs): `x sgemm` is the ratio, measured alternately in the same
// loop.
#include <cblas.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <vector>

#include "bench_support.h"
#include "kernels/cpu_features.h"
#include "kernels/formats/block_matrix_test_support.h"
#include "kernels/linear/linear.h"

namespace sepllm {
namespace {

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void sgemm(ThreadPool& pool, const Matrix& x, const float* w, const Matrix& y) {
  openblas_set_num_threads(1);
  const int64_t share = (y.n_cols + pool.size() - 1) / pool.size();
  pool.parallel_for(pool.size(), [&](int64_t t, int) {
    const int64_t n = std::min(share, y.n_cols - t * share);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, static_cast<int>(x.n_rows), static_cast<int>(n),
                static_cast<int>(x.n_cols), 1.0F, x.data, static_cast<int>(x.stride),
                w + t * share * x.n_cols, static_cast<int>(x.n_cols), 0.0F, y.data + t * share,
                static_cast<int>(y.stride));
  });
}

double median(std::vector<double> v) {
  std::nth_element(v.begin(), v.begin() + static_cast<int64_t>(v.size() / 2), v.end());
  return v[v.size() / 2];
}

enum Way { kAsUsual, kExact, kWithoutAmx, kWithoutVnni };

void BM_LinearMany(benchmark::State& state) {
  const int64_t n_rows = state.range(0), n_in = state.range(1), n_out = state.range(2);
  const auto type = static_cast<DType>(state.range(3));
  const auto way = static_cast<Way>(state.range(4));
  bench::Threads t(static_cast<int>(state.range(5)));
  const Buffer floats = bench::random_stored(DType::kF32, n_in * n_out);
  const bench::Rows x(n_rows, n_in), y(n_rows, n_out);
  Buffer stored(1);
  std::optional<test::BlockMatrix> blocks;
  Weight weight{type, nullptr, n_out, n_in, n_in, false};
  if (is_block_type(type)) {
    blocks.emplace(type, n_out, n_in, 1);
    weight.data = blocks->panels.data();
  } else {
    stored = bench::random_stored(type, n_in * n_out);
    weight.data = stored.data();
  }
  if (way == kExact) t.context.block_products = BlockProducts::kExact;
  if (way == kWithoutAmx) allow_cpu_features(kVnni);
  if (way == kWithoutVnni) allow_cpu_features(0);
  std::vector<double> ours, plain;
  for (auto _ : state) {
    const double begin = seconds();
    linear(t.context, x.matrix, weight, nullptr, y.matrix);
    const double middle = seconds();
    sgemm(t.pool, x.matrix, floats.as<float>(), y.matrix);
    ours.push_back(middle - begin);
    plain.push_back(seconds() - middle);
    state.SetIterationTime(middle - begin);
  }
  allow_cpu_features(kAllCpuFeatures);
  const double flops = 2.0 * static_cast<double>(n_rows * n_in * n_out);
  state.counters["GFLOP/s"] = flops / median(ours) * 1e-9;
  state.counters["x sgemm"] = median(plain) / median(ours);
  state.SetLabel(dtype_name(type));
}
#define SEPLLM_SHAPES(rows, types, ways, threads)                 \
  ArgsProduct({rows, {2048}, {2048}, types, ways, threads})       \
      ->ArgsProduct({rows, {2048}, {5632}, types, ways, threads}) \
      ->ArgsProduct({rows, {5632}, {2048}, types, ways, threads}) \
      ->ArgsProduct({rows, {768}, {768}, types, ways, threads})   \
      ->ArgsProduct({rows, {768}, {3072}, types, ways, threads})
const std::vector<int64_t> kRows = {512}, kThreads = {1, 2}, kOne = {1};
std::vector<int64_t> types(bool of_blocks, bool of_floats) {
  std::vector<int64_t> out;
  for (const DTypeInfo& info : kDTypeInfos) {
    const bool multiplied = is_weight_type(info.type) || has_panels(info.type);
    if (multiplied && (is_block_type(info.type) ? of_blocks : of_floats))
      out.push_back(static_cast<int64_t>(info.type));
  }
  return out;
}
const std::vector<int64_t> kBlocks = types(true, false), kPlain = types(false, true),
                           kAll = types(true, true);
const std::vector<int64_t> kUsual = {kAsUsual}, kExactly = {kExact}, kOthers = {kWithoutAmx, kWithoutVnni};
BENCHMARK(BM_LinearMany)
    ->ArgNames({"rows", "in", "out", "type", "way", "threads"})
    ->SEPLLM_SHAPES(kRows, kBlocks, kUsual, kThreads)
    ->SEPLLM_SHAPES(kRows, kBlocks, kExactly, kThreads)
    ->SEPLLM_SHAPES(kRows, kPlain, kUsual, kThreads)
    ->ArgsProduct({kRows, {2048}, {2048}, kBlocks, kOthers, kOne})
    ->ArgsProduct({kRows, {2048}, {32000}, kBlocks, kUsual, kThreads})
    ->ArgsProduct({{16, 24, 32, 33, 48, 64, 128}, {2048}, {2048}, kBlocks, kUsual, kOne})
    ->ArgsProduct({{33, 48, 64, 128}, {2048}, {2048}, kAll, kExactly, kOne})
    ->ArgsProduct({{33, 64, 128}, {2048}, {5632}, kAll, kExactly, kOne})
    ->ArgsProduct({{33, 64, 128}, {5632}, {2048}, kAll, kExactly, kOne})
    ->ArgsProduct({{33, 64, 128}, {768}, {768}, kAll, kExactly, kOne})
    ->ArgsProduct({{33, 64, 128}, {768}, {3072}, kAll, kExactly, kOne})
    ->UseManualTime();

}  // namespace
}  // namespace sepllm

BENCHMARK_MAIN();
