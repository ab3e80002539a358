#include "kernels/machine_rates.h"

#include <cblas.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <climits>
#include <cstdint>
#include <vector>

#include "base/check.h"
#include "kernels/walk_rates.h"

namespace sepllm {
namespace {

constexpr int64_t kBlockWords = 256;  // sum_words takes at least this many
constexpr int64_t kBlockBytes = kBlockWords * 4;
constexpr int kRepeats = 5;
constexpr int kRounds = 2;  // in which the walks take turns

int64_t whole_blocks(int64_t bytes) {
  SEPLLM_CHECK(bytes >= 1 && bytes <= INT64_MAX - kBlockBytes);
  return (bytes + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
}

// Task t's part of n_words words.
struct Part {
  int64_t begin, end;
};
Part part_of(int64_t n_words, int64_t t, int64_t n_tasks) {
  const int64_t n_blocks = n_words / kBlockWords;
  return {n_blocks * t / n_tasks * kBlockWords, n_blocks * (t + 1) / n_tasks * kBlockWords};
}

template <typename Fn>
double seconds_of(const Fn& fn) {
  const auto start = std::chrono::steady_clock::now();
  fn();
  return std::max(1e-9, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
}

}  // namespace

ReadProbe::ReadProbe(const Context& ctx, int64_t bytes) : array_(whole_blocks(bytes), "a read measurement") {
  // Different values, so that no page is the system's shared zero page, and the sum is known.
  auto* words = array_.as<uint32_t>();
  ctx.pool.parallel_for(ctx.pool.size(), [&](int64_t t, int) {
    const Part part = part_of(array_.bytes() / 4, t, ctx.pool.size());
    for (int64_t i = part.begin; i < part.end; ++i) words[i] = static_cast<uint32_t>(i);
  });
}

Walk ReadProbe::walk_for(const Context& ctx) {
  const auto known = walks_.find(ctx.pool.size());
  if (known != walks_.end()) return known->second;
  std::vector<WalkRate> rates;
  for (const Walk& walk : candidate_walks()) rates.push_back({walk});
  for (int i = 0; i < kRounds; ++i) {
    for (WalkRate& rate : rates)
      rate.bytes_per_second = std::max(rate.bytes_per_second, measure(ctx, rate.walk));
  }
  return walks_[ctx.pool.size()] = fastest_walk(rates).walk;
}

double ReadProbe::measure(const Context& ctx) { return measure(ctx, walk_for(ctx)); }

double ReadProbe::measure(const Context& ctx, const Walk& walk) {
  const int64_t n = array_.bytes() / 4;
  std::atomic<uint32_t> sum{0};
  const double seconds = seconds_of([&] {
    ctx.pool.parallel_for(ctx.pool.size(), [&](int64_t t, int) {
      const Part part = part_of(n, t, ctx.pool.size());
      sum += sum_words(array_.as<uint32_t>(), part.begin, part.end, walk);
    });
  });
  const auto count = static_cast<uint64_t>(n);
  SEPLLM_CHECK(sum == static_cast<uint32_t>(count / 2 * (count - 1)));  // count is even
  return static_cast<double>(array_.bytes()) / seconds;
}

double read_bandwidth(const Context& ctx, int64_t bytes) {
  ReadProbe probe(ctx, bytes);
  double best = 0;
  for (int i = 0; i < kRepeats; ++i) best = std::max(best, probe.measure(ctx));
  return best;
}

double sgemm_flops(const Context& ctx, int64_t n) {
  SEPLLM_CHECK(n >= 1 && n <= INT_MAX);
  openblas_set_num_threads(1);
  const int64_t n_tasks = ctx.pool.size();
  const Buffer operands(n_tasks * 3 * n * n * 4, "an sgemm measurement");
  auto* values = operands.as<float>();
  std::fill_n(values, n_tasks * 3 * n * n, 0.5F);
  const int size = static_cast<int>(n);
  double best = 0;
  for (int i = 0; i <= kRepeats; ++i) {  // the first run warms up
    const double seconds = seconds_of([&] {
      ctx.pool.parallel_for(n_tasks, [&](int64_t t, int) {
        const float* a = values + 3 * t * n * n;
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, size, size, size, 1.0F, a, size, a + n * n,
                    size, 0.0F, values + (3 * t + 2) * n * n, size);
      });
    });
    if (i > 0) best = std::max(best, 2.0 * static_cast<double>(n_tasks * n * n * n) / seconds);
  }
  SEPLLM_CHECK(values[2 * n * n] == 0.25F * static_cast<float>(n));
  return best;
}

}  // namespace sepllm
