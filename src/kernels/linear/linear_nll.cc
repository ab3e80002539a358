#include "kernels/linear/linear_nll.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/check.h"
#include "kernels/formats/element.h"
#include "kernels/formats/panels.h"
#include "kernels/linear/linear.h"
#include "kernels/linear/linear_many.h"
#include "kernels/linear/linear_many_split.h"
#include "kernels/parallel.h"
#include "kernels/rowwise/elementwise.h"
#include "kernels/rowwise/elementwise_rows.h"

namespace sepllm {
namespace {

// These sizes are fixed, so that a result does not depend on the number of threads.
constexpr int64_t kRowTile = 512;
constexpr int64_t kTileOut = 256;   // logits of a tile: half a megabyte
constexpr int64_t kTaskOut = 1024;  // outputs of a task
constexpr int64_t kPartOut = 2048;  // whole panels

void by_tiles(const Context& ctx, const Matrix& x, const Weight& w, const float* bias,
              std::span<const int32_t> targets, double* out) {
  const Arena::Scope scope(ctx.arena);
  const int64_t n_out_tasks = (w.n_out + kTaskOut - 1) / kTaskOut;
  const int64_t n_row_tiles = (x.n_rows + kRowTile - 1) / kRowTile;
  const int64_t scratch_size = kRowTile * kTileOut + blas_scratch(kTileOut);
  float* scratch = ctx.arena.allocate<float>(scratch_size * ctx.pool.size());
  LogSum* sums = ctx.arena.allocate<LogSum>(n_out_tasks * x.n_rows);  // [task][row]
  float* of_target = ctx.arena.allocate<float>(x.n_rows);
  parallel_for(ctx, n_out_tasks * n_row_tiles, x.n_rows * w.n_in * w.n_out, [&](int64_t task, int worker) {
    const int64_t first = task / n_out_tasks * kRowTile;
    const int64_t n_rows = std::min(kRowTile, x.n_rows - first);
    const int64_t begin = task % n_out_tasks * kTaskOut;
    const int64_t end = std::min(begin + kTaskOut, w.n_out);
    LogSum* sum = sums + task % n_out_tasks * x.n_rows + first;
    std::fill_n(sum, n_rows, LogSum());
    float* tile = scratch + worker * scratch_size;
    for (int64_t o = begin; o < end; o += kTileOut) {
      const int64_t n_out = std::min(kTileOut, end - o);
      const Matrix y{tile, n_rows, n_out, n_out};
      blas_tile(x.rows(first, n_rows), w, o, bias, y, /*accumulate=*/false, tile + kRowTile * kTileOut);
      for (int64_t r = 0; r < n_rows; ++r) {
        add_to_log_sum(y.row(r), n_out, &sum[r]);
        const int64_t target = targets[static_cast<size_t>(first + r)];
        if (target >= o && target < o + n_out) of_target[first + r] = y.row(r)[target - o];
      }
    }
  });
  for (int64_t r = 0; r < x.n_rows; ++r) {
    float top = sums[r].top;
    for (int64_t t = 1; t < n_out_tasks; ++t) top = std::max(top, sums[t * x.n_rows + r].top);
    double total = 0.0;
    for (int64_t t = 0; t < n_out_tasks; ++t) {
      const LogSum& sum = sums[t * x.n_rows + r];
      total += sum.total * std::exp(static_cast<double>(sum.top) - top);
    }
    out[r] = std::log(total) + top - of_target[r];
  }
}

// The outputs [out, out + n) of W, where `out` is the first output of a panel.
Weight outputs_of(const Weight& w, int64_t out, int64_t n) {
  Weight part = w;
  part.n_out = n;
  part.data = is_block_type(w.type)
                  ? static_cast<const char*>(w.data) + out / kPanelOutputs * panel_bytes(w.type, w.n_in)
                  : element_at(w.type, w.data, w.transposed ? out : out * w.row_stride);
  return part;
}

// For 8- and 4-bit weights, and for products by tiles of bf16. All outputs share the rounded or split rows,
// so all threads together compute one large part of the outputs after the other, and then sum it up.
void by_parts(const Context& ctx, const Matrix& x, const Weight& w, const float* bias,
              std::span<const int32_t> targets, double* out) {
  const Arena::Scope scope(ctx.arena);
  const Matrix part{ctx.arena.allocate<float>(x.n_rows * kPartOut), x.n_rows, kPartOut, kPartOut};
  LogSum* sums = ctx.arena.allocate<LogSum>(x.n_rows);
  float* of_target = ctx.arena.allocate<float>(x.n_rows);
  std::fill_n(sums, x.n_rows, LogSum());
  for (int64_t o = 0; o < w.n_out; o += kPartOut) {
    const int64_t n_out = std::min(kPartOut, w.n_out - o);
    const Weight part_of_w = outputs_of(w, o, n_out);
    const Matrix y = part.columns(0, n_out);
    linear(ctx, x, part_of_w, bias != nullptr ? bias + o : nullptr, y);
    parallel_for(ctx, x.n_rows, x.n_rows * n_out, [&](int64_t r, int) {
      add_to_log_sum(y.row(r), n_out, &sums[r]);
      const int64_t target = targets[static_cast<size_t>(r)];
      if (target >= o && target < o + n_out) of_target[r] = y.row(r)[target - o];
    });
  }
  for (int64_t r = 0; r < x.n_rows; ++r) out[r] = sums[r].value() - of_target[r];
}

}  // namespace

void linear_nll(const Context& ctx, const Matrix& x, const Weight& w, const float* bias,
                std::span<const int32_t> targets, double* out) {
  SEPLLM_CHECK(static_cast<int64_t>(targets.size()) == x.n_rows && x.n_cols == w.n_in);
  for (const int32_t t : targets) SEPLLM_CHECK(t >= 0 && t < w.n_out);
  if (x.n_rows > kFewRows) {
    const bool shares = is_block_type(w.type) || by_split(ctx, w, x.n_rows);
    (shares ? by_parts : by_tiles)(ctx, x, w, bias, targets, out);
    return;
  }
  const Arena::Scope scope(ctx.arena);
  const Matrix logits{ctx.arena.allocate<float>(x.n_rows * w.n_out), x.n_rows, w.n_out, w.n_out};
  linear(ctx, x, w, bias, logits);
  nll_rows(ctx, logits, targets, out);
}

}  // namespace sepllm
