// Attention of one new token per sequence, over 256 MiB of keys and values. A decoding step is bound by
// reading them: `bandwidth_share` is the bytes of K, V and their scales read per second, divided by what the
// machine reads per second with as many threads (ReadProbe); both are medians of measurements taken in turns.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <memory>

#include "apps/bench/turns.h"
#include "bench_support.h"
#include "kernels/attention/attention.h"
#include "kernels/machine_rates.h"

namespace sepllm {
namespace {

constexpr int64_t kBytes = int64_t{256} << 20;  // of K and V together
constexpr int64_t kHeads = 32;
constexpr int kRounds = 7;

// Keys and values of some sequences, each [kv head][key][head_dim], as a cache holds them.
struct Cache {
  Cache(DType type, int64_t n_kv_heads, int64_t head_dim, std::span<const int64_t> lengths) {
    int64_t n_rows = 0;
    for (const int64_t n : lengths) n_rows += n * n_kv_heads;
    for (Buffer* b : {&k, &v}) {
      *b = Buffer(n_rows * head_dim * dtype_size(type));
      const Buffer piece = bench::random_stored(type, 1 << 20);
      for (int64_t at = 0; at < b->bytes(); at += piece.bytes()) {
        std::memcpy(b->as<char>() + at, piece.data(), std::min(piece.bytes(), b->bytes() - at));
      }
    }
    bytes = k.bytes() + v.bytes();
    if (type == DType::kI8) {
      scales = Buffer(n_rows * 4);
      std::fill_n(scales.as<float>(), n_rows, 0.01F);
      bytes += 2 * scales.bytes();
    }
    int64_t row = 0;
    for (const int64_t n : lengths) {
      KeySpan span;
      span.k = element_at(type, k.data(), row * head_dim);
      span.v = element_at(type, v.data(), row * head_dim);
      if (type == DType::kI8) span.k_scales = span.v_scales = scales.as<float>() + row;
      span.scale_head_stride = n;
      span.slot_stride = head_dim;
      span.head_stride = n * head_dim;
      span.n_keys = n;
      spans.push_back(span);
      row += n * n_kv_heads;
    }
  }
  Buffer k, v, scales;
  std::vector<KeySpan> spans;
  int64_t bytes = 0;
};

// n_sequences lengths between 1/8 and 15/8 of their mean, unordered.
std::vector<int64_t> lengths_of(int64_t n_keys, int64_t n_sequences) {
  if (n_sequences == 1) return {n_keys};
  const int64_t mean = n_keys / n_sequences;
  std::vector<int64_t> lengths;
  for (int64_t i = 0; i < n_sequences; ++i) {
    const int64_t place = i * 7 % n_sequences;  // n_sequences is a power of two
    lengths.push_back(mean / 8 + (2 * place + 1) * (mean * 14 / 8) / (2 * n_sequences));
  }
  return lengths;
}

double seconds_of(const Context& ctx, const AttentionArgs& args) {
  const auto start = std::chrono::steady_clock::now();
  attention(ctx, args);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void BM_Decode(benchmark::State& state) {
  const auto type = static_cast<DType>(state.range(0));
  const int64_t head_dim = state.range(1);
  const int64_t n_kv_heads = state.range(2);
  const int64_t n_sequences = state.range(3);
  const bench::Threads t(static_cast<int>(state.range(4)));
  static ReadProbe probe(t.context);

  const int64_t n_keys = kBytes / (2 * n_kv_heads * head_dim * dtype_size(type));
  const Cache cache(type, n_kv_heads, head_dim, lengths_of(n_keys, n_sequences));
  std::vector<AttentionSequence> sequences;
  for (const KeySpan& span : cache.spans) {
    AttentionSequence s;
    s.first_row = static_cast<int64_t>(sequences.size());
    s.n_rows = 1;
    s.first_position = span.n_keys - 1;
    s.kv_type = type;
    s.spans = {&span, 1};
    sequences.push_back(s);
  }
  const bench::Rows q(n_sequences, kHeads * head_dim), out(n_sequences, kHeads * head_dim);
  AttentionArgs args;
  const auto heads = [&](const bench::Rows& rows) {
    return Heads{rows.matrix.data, rows.matrix.stride, HeadLayout::dense(kHeads, head_dim)};
  };
  args.n_kv_heads = n_kv_heads;
  args.scale = 1.0F / std::sqrt(static_cast<float>(head_dim));
  args.q = heads(q);
  args.out = heads(out);
  args.sequences = sequences;

  std::vector<double> seconds, reads;
  attention(t.context, args);
  for (auto _ : state) {
    reads.push_back(probe.measure(t.context));
    seconds.push_back(seconds_of(t.context, args));
    state.SetIterationTime(seconds.back());
  }
  const double rate = static_cast<double>(cache.bytes) / bench::median(seconds);
  state.counters["GB/s"] = rate * 1e-9;
  state.counters["read_GB/s"] = bench::median(reads) * 1e-9;
  state.counters["bandwidth_share"] = rate / bench::median(reads);
  state.SetLabel(dtype_name(type));
}
BENCHMARK(BM_Decode)
    ->ArgNames({"type", "head_dim", "kv_heads", "sequences", "threads"})
    ->ArgsProduct({{0, 1, 2, 3}, {64, 128}, {32, 8, 1}, {1, 16}, {1, 2}})
    ->Iterations(kRounds)
    ->Unit(benchmark::kMillisecond)
    ->UseManualTime();

}  // namespace
}  // namespace sepllm

BENCHMARK_MAIN();
