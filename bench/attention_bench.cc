// Attention over spans of keys, and of whole sequences by a pattern. GFLOP/s count visible pairs; compare
// them with BM_Sgemm of the same run. For one token per sequence see attention_decode_bench.
#include <cblas.h>

#include <cmath>

#include "apps/bench/data/separators.h"
#include "apps/bench/pattern_operands.h"
#include "attention/pattern.h"
#include "bench_support.h"
#include "kernels/attention/attention.h"

namespace sepllm {
namespace {

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

// Separators of a real text, about one token in six; window 0: full attention.
Pattern book_pattern(int64_t n_tokens, int64_t window) {
  if (window == 0) return {};
  return {.n_initial = 4, .extra = bench::book_separators("paper", n_tokens), .window = window};
}

// The compact and the recent part of one sequence, as a cache holds them.
struct Cache {
  Cache(const Pattern& p, int64_t n_tokens, DType type, int64_t n_kv_heads, int64_t head_dim)
      : positions(p.kept(n_tokens)), type(type) {
    const auto n_compact = static_cast<int64_t>(positions.size());
    for (const int64_t n : {n_compact, n_tokens}) {
      for (int k = 0; k < 2; ++k) {
        buffers.push_back(bench::random_stored(type, std::max<int64_t>(1, n) * n_kv_heads * head_dim));
      }
      KeySpan span;
      span.k = buffers[buffers.size() - 2].data();
      span.v = buffers.back().data();
      span.n_keys = n;
      span.slot_stride = head_dim;
      span.head_stride = n * head_dim;
      spans.push_back(span);
    }
    spans[0].kind = KeySpan::Kind::kCompact;
    spans[0].positions = positions.data();
    spans[0].lag = p.window;
    spans[1].window = p.window;
  }
  std::vector<int64_t> positions;
  DType type;
  std::vector<Buffer> buffers;
  std::vector<KeySpan> spans;
};

void run(benchmark::State& state, const Pattern& pattern, int64_t n_tokens, int64_t n_rows, DType type,
         int64_t n_heads, int64_t n_kv_heads, int64_t head_dim, int threads) {
  bench::Threads t(threads);
  const Cache cache(pattern, n_tokens, type, n_kv_heads, head_dim);
  const bench::Rows q(n_rows, n_heads * head_dim), out(n_rows, n_heads * head_dim);
  AttentionSequence sequence;
  sequence.n_rows = n_rows;
  sequence.first_position = n_tokens - n_rows;
  sequence.kv_type = type;
  sequence.spans = cache.spans;
  AttentionArgs args;
  const auto heads = [&](const bench::Rows& rows) {
    return Heads{rows.matrix.data, rows.matrix.stride, HeadLayout::dense(n_heads, head_dim)};
  };
  args.n_kv_heads = n_kv_heads;
  args.scale = 1.0F / std::sqrt(static_cast<float>(head_dim));
  args.q = heads(q);
  args.out = heads(out);
  args.sequences = {&sequence, 1};
  for (auto _ : state) attention(t.context, args);
  int64_t pairs = 0;
  for (int64_t r = 0; r < n_rows; ++r) {
    for (const KeySpan& span : cache.spans) pairs += span.range(sequence.first_position + r).size();
  }
  bench::report_flops(state, 4.0 * static_cast<double>(pairs * n_heads * head_dim));
}

void BM_Prompt(benchmark::State& state) {
  const int64_t n_tokens = state.range(0);
  run(state, book_pattern(n_tokens, state.range(1)), n_tokens, n_tokens, static_cast<DType>(state.range(2)),
      12, state.range(3), state.range(4), static_cast<int>(state.range(5)));
}
BENCHMARK(BM_Prompt)
    ->ArgNames({"tokens", "window", "type", "kv_heads", "head_dim", "threads"})
    ->ArgsProduct({{2048}, {0, 64, 256}, {0}, {12}, {64}, {1, 2}})
    ->ArgsProduct({{8192}, {64}, {0}, {12}, {64}, {1}})
    ->ArgsProduct({{2048}, {0, 64}, {1}, {12}, {64}, {1}})
    ->ArgsProduct({{2048}, {0, 64}, {0}, {3}, {64}, {1}})
    ->ArgsProduct({{2048}, {0, 64}, {0}, {12}, {128}, {1}})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

// Whole sequences, as training runs them. "Backward" is only the backward half.
void run_whole(benchmark::State& state, const bench::AttentionShape& shape, const Pattern& pattern,
               int threads, bool backward) {
  bench::Threads t(threads);
  bench::PatternOperands operands(shape, backward);
  if (backward) operands.run(t.context, pattern, bench::AttentionPass::kForwardBackward);
  for (auto _ : state) {
    if (backward) {
      operands.run_backward(t.context, pattern);
    } else {
      operands.run(t.context, pattern, bench::AttentionPass::kForward);
    }
  }
  const int64_t pairs = pattern.visible_pairs(shape.tokens);
  const double forward = bench::attention_flops(shape, pairs, bench::AttentionPass::kForward);
  const double both = bench::attention_flops(shape, pairs, bench::AttentionPass::kForwardBackward);
  bench::report_flops(state, backward ? both - forward : forward);
}

void run_pattern(benchmark::State& state, bool backward) {
  const bench::AttentionShape shape{state.range(0), state.range(2), state.range(3), state.range(4)};
  run_whole(state, shape, book_pattern(shape.tokens, state.range(1)), static_cast<int>(state.range(5)),
            backward);
}
void pattern_sizes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"tokens", "window", "heads", "kv_heads", "head_dim", "threads"})
      ->ArgsProduct({{2048}, {0, 64, 256}, {12}, {12}, {64}, {1, 2}})
      ->ArgsProduct({{8192}, {0, 64}, {12}, {12}, {64}, {1}})
      ->ArgsProduct({{2048}, {0, 64}, {32}, {8}, {128}, {1}})
      ->Unit(benchmark::kMillisecond)
      ->UseRealTime();
}
void BM_PatternForward(benchmark::State& state) { run_pattern(state, false); }
BENCHMARK(BM_PatternForward)->Apply(pattern_sizes);
void BM_PatternBackward(benchmark::State& state) { run_pattern(state, true); }
BENCHMARK(BM_PatternBackward)->Apply(pattern_sizes);

// Queries that choose among blocks of random keys: means, choice and attention.
void run_blocks(benchmark::State& state, bool backward) {
  const bench::AttentionShape shape{state.range(0), state.range(3), state.range(4), state.range(5)};
  Pattern pattern;
  pattern.blocks.count = state.range(2);
  for (int64_t start = 0; start < shape.tokens; start += state.range(1))
    pattern.blocks.starts.push_back(start);
  run_whole(state, shape, pattern, static_cast<int>(state.range(6)), backward);
}
void block_sizes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"tokens", "block_size", "blocks", "heads", "kv_heads", "head_dim", "threads"})
      ->ArgsProduct({{2048, 4096, 8192, 16384, 32768}, {64}, {8}, {12}, {12}, {64}, {1}})
      ->ArgsProduct({{4096, 32768}, {128, 256}, {4}, {12}, {12}, {64}, {1}})
      ->ArgsProduct({{4096}, {64}, {8}, {12}, {3}, {64}, {1, 2}})
      ->Unit(benchmark::kMillisecond)
      ->UseRealTime();
}
void BM_BlocksForward(benchmark::State& state) { run_blocks(state, false); }
BENCHMARK(BM_BlocksForward)->Apply(block_sizes);
void BM_BlocksBackward(benchmark::State& state) { run_blocks(state, true); }
BENCHMARK(BM_BlocksBackward)->Apply(block_sizes);

}  // namespace
}  // namespace sepllm

BENCHMARK_MAIN();
