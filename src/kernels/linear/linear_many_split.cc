#include "kernels/linear/linear_many_split.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>

#include "base/check.h"
#include "kernels/cpu_features.h"
#include "kernels/formats/element.h"
#include "kernels/formats/panels.h"
#include "kernels/linear/linear_many.h"
#include "kernels/parallel.h"
#include "kernels/prefetch.h"

namespace sepllm {
namespace {

// The number of blocks at a time: the rows of a group stay in L1 (24 KB, rounded 16 KB) while they are
// multiplied for all outputs of a task.
int64_t chunk_of(SplitForm form) { return form.rounded() ? 8 : 4; }
// Pairs of panels between prefetches.
constexpr int64_t kAtOnce = 4;
// The rows of a pass and the outputs of a task. Without rounding, the sums of a task stay in L2 (1 MB at
// most); with it, the weights of a task do (below). The split rows do not; they are read once for each task
// and fetched ahead.
constexpr int64_t kPassRows = 1024, kMostRoundedRows = 4096;
constexpr int64_t kRoundedPassBytes = int64_t{8} << 20;  // of rounded rows
constexpr int64_t kTaskPairs = 8;
// The inputs of a pass. They limit the memory of the split rows, which take three times as much as the rows.
constexpr int64_t kMostInputs = 4096;

// Neither the rows of a pass nor the outputs of a task change the order in which anything is added.
int64_t pass_rows(SplitForm form, int64_t n_in) {
  if (!form.rounded()) return kPassRows;
  return std::clamp(kRoundedPassBytes / (2 * std::max<int64_t>(n_in, 1)), kPassRows, kMostRoundedRows);
}

// Rounded weights of a task: whole pairs with all their inputs, in half of L2.
int64_t task_pairs(SplitForm form, int64_t pair_bytes) {
  if (!form.rounded()) return kTaskPairs;
  return std::clamp<int64_t>(l2_bytes() / 2 / pair_bytes, 1, kTaskPairs);
}

struct SplitRows {
  SplitForm form;  // of the rows; that of the weights may differ from part to part
  int64_t n_blocks, n_groups;
  uint16_t* values;  // [group][block][part][tile of rows][row][input]
  bool* plain;       // [row]

  const uint16_t* at(int64_t group, int64_t block) const {
    return values + (group * n_blocks + block) * form.rows_block();
  }
};

SplitRows split_pass(const Context& ctx, const SplitOperand& x, SplitForm form) {
  const int64_t n_groups = (x.n_rows() + kSplitGroup - 1) / kSplitGroup;
  const int64_t n_blocks = panel_pairs(BytePanel::kForm, x.n_in()) * 2;
  const SplitRows rows{form, n_blocks, n_groups,
                       ctx.arena.allocate<uint16_t>(n_groups * n_blocks * form.rows_block()),
                       ctx.arena.allocate<bool>(n_groups * kSplitGroup)};
  std::fill_n(rows.plain, n_groups * kSplitGroup, true);  // also where no thread looks (ThreadPool::Idle)
  parallel_for(ctx, n_groups, x.n_rows() * x.n_in() * 2, [&](int64_t g, int) {
    const int64_t row = g * kSplitGroup;
    split_rows(x.rows(row, std::min(kSplitGroup, x.n_rows() - row)), n_blocks, form,
               rows.values + g * n_blocks * form.rows_block(), rows.plain + row);
  });
  return rows;
}

// Fetches the share `share` of n_shares of the weights of the blocks [first, first + n) of the outputs [out,
// end).
void fetch_weights(const Weight& w, int64_t out, int64_t end, int64_t first, int64_t n, int64_t share,
                   int64_t n_shares) {
  const auto* data = static_cast<const char*>(w.data);
  int64_t stride = 0, n_streams = 0, bytes = 0;
  if (is_block_type(w.type)) {
    stride = panel_bytes(w.type, w.n_in);
    n_streams = n_panels(end - out);
    const int64_t of_pair = format_of(w.type).panel.pair_bytes();
    data += out / kPanelOutputs * stride + first / 2 * of_pair;
    bytes = n / 2 * of_pair;
  } else {
    const int64_t in = first * kSplitBlock, n_in = std::min(w.n_in - in, n * kSplitBlock);
    stride = w.row_stride * dtype_size(w.type);
    n_streams = w.transposed ? n_in : end - out;
    data += (w.transposed ? in : out) * stride + (w.transposed ? out : in) * dtype_size(w.type);
    bytes = (w.transposed ? end - out : n_in) * dtype_size(w.type);
  }
  for (int64_t s = n_streams * share / n_shares; s < n_streams * (share + 1) / n_shares; ++s)
    prefetch_row(data + s * stride, bytes);
}

struct Scratch {
  uint16_t* weights;  // [pair][block of a chunk]
  float* sums;        // [group][pair]
};

// Whether products are made by tiles of AMX.
bool by_tiles() { return (cpu_features() & kAmxBf16) != 0; }

void multiply(SplitForm form, const uint16_t* rows, int64_t n_rows, const SplitPairs& pairs, int64_t n_blocks,
              bool add, float* sums) {
  if (by_tiles()) return multiply_split(form, rows, n_rows, pairs, n_blocks, add, sums);
  multiply_rounded(rows, n_rows, pairs, n_blocks, add, sums);
}

// Adds the sums of a group of rows into y.
void finish_group(const LinearPart& part, const SplitRows& rows, const Matrix& y, int64_t group, int64_t out,
                  int64_t end, const float* sums) {
  const int64_t row = group * kSplitGroup;
  const Matrix to = y.rows(row, std::min(kSplitGroup, y.n_rows - row));
  finish_split(sums, rows.plain + row, part.bias != nullptr ? part.bias + out : nullptr,
               to.columns(out, end - out), part.accumulate);
}

// Computes the outputs [out, end) of all rows of a pass, by rounded operands. The weights of the task stay in
// L2 with all their inputs while the groups of rows pass, so the sums of one group are all that there are,
// and they go to y while they are in L1.
void run_rounded_task(const LinearPart& part, SplitForm form, const SplitRows& rows, const Matrix& y,
                      int64_t out, int64_t end, const Scratch& mine) {
  const Weight& w = *part.w;
  const int64_t chunk = chunk_of(form), block = form.weights_block(w.type);
  const int64_t n_pairs = (end - out + kSplitPair - 1) / kSplitPair, pair_values = rows.n_blocks * block;
  for (int64_t p = 0; p < n_pairs; ++p) {
    const int64_t first = out + p * kSplitPair, next = first + kSplitPair;
    if (next < end) fetch_weights(w, next, std::min(end, next + kSplitPair), 0, rows.n_blocks, 0, 1);
    split_weights(w, form, first, 0, rows.n_blocks, mine.weights + p * pair_values);
  }
  for (int64_t g = 0; g < rows.n_groups; ++g) {
    const int64_t n_rows = std::min(kSplitGroup, y.n_rows - g * kSplitGroup);
    for (int64_t first = 0; first < rows.n_blocks; first += chunk) {
      const int64_t n = std::min(chunk, rows.n_blocks - first);
      // What comes next: the same blocks of the next group, and in the last chunk the rows of y.
      const bool last = first + chunk >= rows.n_blocks;
      const auto* ahead = reinterpret_cast<const char*>(rows.at(std::min(g + 1, rows.n_groups - 1), first));
      const int64_t lines = n * form.rows_block() * 2 / kCacheLine;
      for (int64_t p = 0; p < n_pairs; ++p) {
        const int64_t line = lines * p / n_pairs;
        prefetch_row(ahead + line * kCacheLine, (lines * (p + 1) / n_pairs - line) * kCacheLine);
        for (int64_t r = last ? n_rows * p / n_pairs : n_rows; r < n_rows * (p + 1) / n_pairs; ++r)
          prefetch_row(y.row(g * kSplitGroup + r) + out, (end - out) * 4);
        multiply(form, rows.at(g, first), n_rows,
                 {mine.weights + p * pair_values + first * block, w.type, 1, pair_values}, n,
                 /*add=*/first > 0, mine.sums + p * kSplitSums);
      }
    }
    finish_group(part, rows, y, g, out, end, mine.sums);
  }
}

// The same for operands in several parts, whose sums stay in L2.
void run_task(const LinearPart& part, SplitForm form, const SplitRows& rows, const Matrix& y, int64_t out,
              int64_t end, const Scratch& mine) {
  const Weight& w = *part.w;
  const int64_t chunk = chunk_of(form);
  const int64_t n_pairs = (end - out + kSplitPair - 1) / kSplitPair;
  const int64_t pair_values = chunk * form.weights_block(w.type);
  for (int64_t first = 0; first < rows.n_blocks; first += chunk) {
    const int64_t n = std::min(chunk, rows.n_blocks - first);
    for (int64_t p = 0; p < n_pairs; ++p)
      split_weights(w, form, out + p * kSplitPair, first, n, mine.weights + p * pair_values);
    const int64_t next = first + n;
    for (int64_t g = 0; g < rows.n_groups; ++g) {
      if (next < rows.n_blocks) {
        fetch_weights(w, out, end, next, std::min(chunk, rows.n_blocks - next), g, rows.n_groups);
      }
      // The rows that come next: those of another group, or the next blocks of the first group.
      const bool last = g + 1 == rows.n_groups;
      const int64_t n_ahead = !last ? n : std::min(chunk, rows.n_blocks - next);
      const auto* ahead = reinterpret_cast<const char*>(last ? rows.at(0, next) : rows.at(g + 1, first));
      const int64_t lines = n_ahead * form.rows_block() * 2 / kCacheLine;
      for (int64_t p = 0; p < n_pairs; p += kAtOnce) {
        const int64_t n_here = std::min(kAtOnce, n_pairs - p);
        const int64_t line = lines * p / n_pairs;
        prefetch_row(ahead + line * kCacheLine, (lines * (p + n_here) / n_pairs - line) * kCacheLine);
        multiply(form, rows.at(g, first), y.n_rows - g * kSplitGroup,
                 {mine.weights + p * pair_values, w.type, n_here, pair_values}, n, /*add=*/first > 0,
                 mine.sums + (g * n_pairs + p) * kSplitSums);
      }
    }
  }
  for (int64_t g = 0; g < rows.n_groups; ++g)
    finish_group(part, rows, y, g, out, end, mine.sums + g * n_pairs * kSplitSums);
}

// The rows that must not be multiplied by tiles.
void run_other_rows(const Context& ctx, const SplitOperand& x, const LinearPart& part, const Matrix& y,
                    const bool* plain) {
  for (int64_t r = 0, end = 0; r < x.n_rows(); r = end) {
    for (end = r + 1; end < x.n_rows() && plain[end] == plain[r];) ++end;
    if (plain[r]) continue;
    const Arena::Scope scope(ctx.arena);
    Matrix rows = x.rows(r, end - r).matrix;
    if (x.transposed) {
      const Matrix columns = rows;
      rows = {ctx.arena.allocate<float>((end - r) * x.n_in()), end - r, x.n_in(), x.n_in()};
      for (int64_t i = 0; i < x.n_in(); ++i) {
        for (int64_t c = 0; c < rows.n_rows; ++c) rows.row(c)[i] = columns.row(i)[c];
      }
    }
    linear_through_blas(ctx, rows, {part.w, part.bias, y.rows(r, end - r), part.accumulate});
  }
}

SplitForm form_of(const Context& ctx, const LinearPart& part, int64_t n_rows) {
  const std::optional<SplitForm> form = split_form(ctx, *part.w, n_rows);
  SEPLLM_CHECK(form.has_value());
  return *form;
}

// The blocks of a pair of panels that a task holds at a time.
int64_t scratch_blocks(SplitForm form, int64_t n_blocks) {
  return form.rounded() ? n_blocks : chunk_of(form);
}

// Tasks of at most `most` pairs, which differ by at most one pair: several for each thread, and the same
// number for all.
int64_t count_tasks(int64_t n_pairs, int64_t most, int64_t n_threads) {
  const int64_t least = std::max((n_pairs + most - 1) / most, n_threads == 1 ? 1 : 2 * n_threads);
  return std::min(n_pairs, (least + n_threads - 1) / n_threads * n_threads);
}

// `n_all`: the rows of all passes, by which the form was chosen.
void run_pass(const Context& ctx, const SplitOperand& x, std::span<const LinearPart> parts, int64_t first_row,
              int64_t n_all) {
  const Arena::Scope scope(ctx.arena);
  const SplitRows rows = split_pass(ctx, x, form_of(ctx, parts[0], n_all));
  int64_t most_weights = 0;
  for (const LinearPart& p : parts) {
    const SplitForm form = form_of(ctx, p, n_all);
    SEPLLM_CHECK(form.row_parts == rows.form.row_parts);
    const int64_t values = scratch_blocks(form, rows.n_blocks) * form.weights_block(p.w->type);
    most_weights = std::max(most_weights, task_pairs(form, values * 2) * values);
  }
  const int64_t n_sums = (rows.form.rounded() ? 1 : rows.n_groups) * kTaskPairs * kSplitSums;
  const Scratch all{ctx.arena.allocate<uint16_t>(most_weights * ctx.pool.size()),
                    ctx.arena.allocate<float>(n_sums * ctx.pool.size())};
  for (const LinearPart& part : parts) {
    const Weight& w = *part.w;
    if (w.n_out == 0) continue;
    const SplitForm form = form_of(ctx, part, n_all);
    const Matrix y = part.y.rows(first_row, x.n_rows());
    const int64_t values = scratch_blocks(form, rows.n_blocks) * form.weights_block(w.type);
    const int64_t n_pairs = (w.n_out + kSplitPair - 1) / kSplitPair;
    const int64_t n_tasks = count_tasks(n_pairs, task_pairs(form, values * 2), ctx.pool.size());
    parallel_for(ctx, n_tasks, x.n_rows() * w.n_in * w.n_out / 4, [&](int64_t task, int worker) {
      const Scratch mine{all.weights + worker * most_weights, all.sums + worker * n_sums};
      const int64_t out = n_pairs * task / n_tasks * kSplitPair;
      const int64_t end = std::min(w.n_out, n_pairs * (task + 1) / n_tasks * kSplitPair);
      const bool tiles = by_tiles();
      if (tiles) begin_split_tiles();
      (form.rounded() ? run_rounded_task : run_task)(part, form, rows, y, out, end, mine);
      if (tiles) end_split_tiles();
    });
    run_other_rows(ctx, x, part, y, rows.plain);
  }
}

void run_passes(const Context& ctx, const SplitOperand& x, std::span<const LinearPart> parts) {
  const int64_t most = pass_rows(form_of(ctx, parts[0], x.n_rows()), x.n_in());
  const int64_t n_passes = (x.n_rows() + most - 1) / most;
  const int64_t n_groups = (x.n_rows() + kSplitGroup - 1) / kSplitGroup;
  const int64_t pass = (n_groups + n_passes - 1) / n_passes * kSplitGroup;
  for (int64_t row = 0; row < x.n_rows(); row += pass)
    run_pass(ctx, x.rows(row, std::min(pass, x.n_rows() - row)), parts, row, x.n_rows());
}

// The inputs [in, in + n) of W.
Weight inputs_of(const Weight& w, int64_t in, int64_t n) {
  Weight part = w;
  part.data = element_at(w.type, w.data, w.transposed ? in * w.row_stride : in);
  part.n_in = n;
  return part;
}

}  // namespace

std::optional<SplitForm> split_form(const Context& ctx, const Weight& w, int64_t n_rows) {
  if (ctx.float_products == FloatProducts::kBF16 && !is_block_type(w.type) && cpu_has_bf16_products())
    return SplitForm{1, 1};
  if (!by_tiles()) return {};
  if (is_block_type(w.type)) {
    if (ctx.block_products != BlockProducts::kExact || !format_of(w.type).panel.is_plain()) return {};
    return SplitForm{3, 1};
  }
  if (w.type == DType::kBF16) return SplitForm{3, 1};
  if (n_rows < (w.type == DType::kF32 ? 512 : 128)) return {};
  return SplitForm{3, w.type == DType::kF32 ? 3 : 2};
}

void linear_many_split(const Context& ctx, const SplitOperand& x, std::span<const LinearPart> parts) {
  if (x.n_in() <= kMostInputs) return run_passes(ctx, x, parts);
  for (const LinearPart& part : parts) {
    if (is_block_type(part.w->type)) {  // panels are not cut
      run_passes(ctx, x, {&part, 1});
      continue;
    }
    for (int64_t in = 0; in < x.n_in(); in += kMostInputs) {
      const int64_t n = std::min(kMostInputs, x.n_in() - in);
      const Weight w = inputs_of(*part.w, in, n);
      const LinearPart piece{&w, in == 0 ? part.bias : nullptr, part.y, part.accumulate || in > 0};
      run_passes(ctx, x.inputs(in, n), {&piece, 1});
    }
  }
}

}  // namespace sepllm
