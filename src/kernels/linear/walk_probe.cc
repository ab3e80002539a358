#include "kernels/linear/walk_probe.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/check.h"
#include "kernels/formats/panels.h"
#include "kernels/linear/linear_few.h"

namespace sepllm {
namespace {

constexpr int64_t kTurnBytes = int64_t{8} << 20;  // that a walk reads at a time, at least

int64_t bytes_of(const Weight& w) {
  if (is_block_type(w.type)) return panels_bytes(w.type, w.n_out, w.n_in);
  return w.n_out * w.n_in * dtype_size(w.type);
}

// Reads the weights in order, and begins again at the end.
class Reader {
 public:
  Reader(const Context& ctx, std::span<const Weight> weights) : ctx_(ctx), weights_(weights) {
    int64_t widest = 0, tallest = 0;
    for (const Weight& w : weights) {
      widest = std::max(widest, w.n_in);
      tallest = std::max(tallest, w.n_out);
    }
    x_ = ctx.arena.allocate<float>(widest);
    y_ = ctx.arena.allocate<float>(tallest);
    std::fill_n(x_, widest, 1.0F);
  }
  // Multiplies with the next weights, at least `bytes` of them, by `walk`; returns how many bytes were read.
  int64_t read(const Walk& walk, int64_t bytes) {
    int64_t done = 0;
    while (done < bytes) {
      Weight w = weights_[next_];
      next_ = (next_ + 1) % weights_.size();
      w.walk = walk;
      const LinearPart part{.w = &w, .y = {y_, 1, w.n_out, w.n_out}};
      linear_few_rows(ctx_, {x_, 1, w.n_in, w.n_in}, {&part, 1});
      done += bytes_of(w);
    }
    return done;
  }

 private:
  const Context& ctx_;
  std::span<const Weight> weights_;
  size_t next_ = 0;
  float* x_;
  float* y_;
};

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

std::vector<WalkRate> measure_walks(const Context& ctx, std::span<const Weight> weights, double seconds) {
  std::vector<WalkRate> rates;
  if (weights.empty()) return rates;
  for (const Walk& walk : candidate_walks()) rates.push_back({walk});
  int64_t total = 0;
  for (const Weight& w : weights) {
    SEPLLM_CHECK(!w.transposed && w.type == weights[0].type);
    total += bytes_of(w);
  }
  const Arena::Scope scope(ctx.arena);
  Reader reader(ctx, weights);
  reader.read(Walk{}, total);
  const auto begin = Clock::now();
  do {
    for (WalkRate& rate : rates) {
      const auto start = Clock::now();
      const int64_t bytes = reader.read(rate.walk, kTurnBytes);
      const double rate_now = static_cast<double>(bytes) / std::max(1e-9, seconds_since(start));
      rate.bytes_per_second = std::max(rate.bytes_per_second, rate_now);
    }
  } while (seconds_since(begin) < seconds);
  return rates;
}

}  // namespace sepllm
