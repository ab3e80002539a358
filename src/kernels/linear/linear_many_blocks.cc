#include "kernels/linear/linear_many_blocks.h"

#include <hwy/highway.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "kernels/cpu_features.h"
#include "kernels/formats/panels.h"
#include "kernels/formats/quantized_rows.h"
#include "kernels/linear/linear_blocks.h"
#include "kernels/parallel.h"

namespace sepllm {
namespace {

// The number of blocks whose weights are in L1 at the same time.
constexpr int64_t kChunkBlocks = 16;
// The limits of a block of rows: at most so many tiles (whose sums take 66 KB) and so many bytes of L2, but
// not so few tiles that the time for unpacking weights matters.
constexpr int64_t kMostTiles = 43;
constexpr int64_t kLeastTiles = 12;
constexpr int64_t kRowsBytes = 1400 * 1024;

void nothing() {}
constexpr TileKernel kAmx{.as_signed = true,
                          .reads_panels = false,
                          .begin = begin_tiles_amx,
                          .run = run_tiles_amx,
                          .end = end_tiles_amx,
                          .unpack = unpack_panel_avx512,
                          .finish = finish_tiles_avx512};
constexpr TileKernel kVnniTiles{.as_signed = false,
                                .reads_panels = true,
                                .begin = nothing,
                                .run = run_tiles_vnni,
                                .end = nothing,
                                .unpack = unpack_panel_avx512,
                                .finish = finish_tiles_avx512};
constexpr TileKernel kAvx512{.as_signed = false,
                             .reads_panels = false,
                             .begin = nothing,
                             .run = run_tiles_avx512,
                             .end = nothing,
                             .unpack = unpack_panel_avx512,
                             .finish = finish_tiles_avx512};
constexpr TileKernel kAvx2{.as_signed = false,
                           .reads_panels = false,
                           .begin = nothing,
                           .run = run_tiles_avx2,
                           .end = nothing,
                           .unpack = unpack_panel_avx2,
                           .finish = finish_tiles_avx2};
constexpr TileKernel with_signs(TileKernel kernel) {
  kernel.as_signed = true;
  return kernel;
}
constexpr TileKernel kAvx512Signed = with_signs(kAvx512), kAvx2Signed = with_signs(kAvx2);

// The fastest tiles that this processor has for a type; null where it has none.
const TileKernel* kernel_for(DType type) {
  const PanelForm& form = format_of(type).panel;
  if ((cpu_features() & kAmxInt8) != 0 && form.scales == PanelScales::kGroups) return &kAmx;
  if ((cpu_features() & kVnni) != 0) return &kVnniTiles;
#if defined(__x86_64__)
  if ((hwy::SupportedTargets() & HWY_AVX3) != 0) return form.bits == 8 ? &kAvx512Signed : &kAvx512;
  if ((hwy::SupportedTargets() & HWY_AVX2) != 0) return form.bits == 8 ? &kAvx2Signed : &kAvx2;
#endif
  return nullptr;
}

// Rows in tiles. The order is: blocks of rows; in each of them chunks of inputs; in each of these [tile,
// block of inputs].
class TiledRows {
 public:
  TiledRows() = default;
  TiledRows(const Context& ctx, const Matrix& x, const RowsForm& form)
      : form_(form),
        record_bytes_(static_cast<int64_t>(form.parts == 2 ? sizeof(HalvesRecord) : sizeof(RowsRecord))),
        n_rows_(x.n_rows),
        n_blocks_((groups_of_row(x.n_cols) + form.blocks - 1) / form.blocks * form.blocks),
        n_tiles_((x.n_rows + kTileRows - 1) / kTileRows) {
    const int64_t of_tile = n_blocks_ * record_bytes_;
    const int64_t most = std::clamp(kRowsBytes / of_tile, kLeastTiles, kMostTiles);
    const int64_t n = (n_tiles_ + most - 1) / most;
    block_tiles_ = (n_tiles_ + n - 1) / n;
    records_ = ctx.arena.allocate<char>(n_tiles_ * of_tile);
  }

  int64_t n_inputs() const { return n_blocks_; }  // in blocks of 32
  int64_t n_tiles() const { return n_tiles_; }
  int64_t block_tiles() const { return block_tiles_; }
  int64_t n_row_blocks() const { return (n_tiles_ + block_tiles_ - 1) / block_tiles_; }
  int64_t tiles_of(int64_t row_block) const {
    return std::min(block_tiles_, n_tiles_ - row_block * block_tiles_);
  }
  // The records of a chunk of inputs that begins with block `first`, of all tiles of a block of rows.
  const RowsRecord* chunk(int64_t row_block, int64_t first) const { return record(row_block, first, 0); }
  const RowsForm& form() const { return form_; }

  // Rounds the rows of a tile.
  void fill(const Matrix& x, int64_t tile) const {
    for (int64_t first = 0; first < n_blocks_; first += kChunkBlocks) {
      const int64_t n_blocks = std::min(kChunkBlocks, n_blocks_ - first), column = first * kGroupElements;
      RowsRecord* to = record(tile / block_tiles_, first, tile % block_tiles_ * n_blocks);
      for (int64_t r = 0; r < kTileRows; ++r) {
        const int64_t row = tile * kTileRows + r;
        // A row beyond the last one is as one without inputs.
        const int64_t n = row < n_rows_ ? std::max<int64_t>(0, x.n_cols - column) : 0;
        // The next row's inputs lie where the processor does not expect the next read.
        if (r + 1 < kTileRows && row + 1 < n_rows_) fetch(x.row(row + 1) + column, n);
        quantize_row_blocks(n > 0 ? x.row(row) + column : nullptr, n, n_blocks, form_, row_of(to, r));
      }
    }
  }

 private:
  // Record `at` of a chunk.
  RowsRecord* record(int64_t row_block, int64_t first, int64_t at) const {
    const int64_t begin = row_block * block_tiles_ * n_blocks_ + tiles_of(row_block) * first;
    return reinterpret_cast<RowsRecord*>(records_ + (begin + at) * record_bytes_);
  }
  // Row r of the records from `to` on.
  RowBlocks row_of(RowsRecord* to, int64_t r) const {
    const auto words = record_bytes_ / static_cast<int64_t>(sizeof(float));
    return {.values = to->values[r],
            .values_step = record_bytes_,
            .scales = to->scales + r,
            .sums = form_.sums ? to->sums + r : nullptr,
            .starts = {form_.sums ? nullptr : to->starts + r,
                       form_.parts == 2 ? static_cast<HalvesRecord*>(to)->second_starts + r : nullptr},
            .step = words,
            .starts_step = words};
  }
  static void fetch(const float* x, int64_t n) {
    constexpr int64_t kLine = 16, kMost = kChunkBlocks * kGroupElements;
    for (int64_t k = 0; k < std::min(n, kMost); k += kLine) __builtin_prefetch(x + k);
  }

  RowsForm form_{};
  int64_t record_bytes_ = 0;
  int64_t n_rows_ = 0, n_blocks_ = 0, n_tiles_ = 0, block_tiles_ = 0;
  char* records_ = nullptr;
};

// The scratch memory of a thread.
struct Scratch {
  WeightsRecord* weights;  // [kChunkBlocks]
  float* sums;             // [block_tiles, kTileSums]
};

// Multiplies the panels 2 * pair and 2 * pair + 1 of a part with a block of rows.
void run_pair(const LinearPart& part, const TiledRows& rows, int64_t row_block, int64_t pair,
              const TileKernel& kernel, const Scratch& scratch) {
  const Weight& w = *part.w;
  const int64_t bytes = panel_bytes(w.type, w.n_in), n_tiles = rows.tiles_of(row_block);
  const int64_t row = row_block * rows.block_tiles() * kTileRows;
  const int64_t n_rows = std::min(n_tiles * kTileRows, part.y.n_rows - row);
  const char* panels[kTilePanels];
  for (int64_t p = 0; p < kTilePanels; ++p)
    panels[p] = static_cast<const char*>(w.data) + (pair * kTilePanels + p) * bytes;
  const int64_t n_pair = std::min(kTilePanels, n_panels(w.n_out) - pair * kTilePanels);
  // In place of a panel that is missing, zeros.
  if (n_pair < kTilePanels) std::memset(scratch.weights, 0, kChunkBlocks * sizeof(WeightsRecord));
  const PanelForm& form = format_of(w.type).panel;
  const bool in_place = kernel.reads_panels && form.bits == 8;
  for (int64_t first = 0; first < rows.n_inputs(); first += kChunkBlocks) {
    const int64_t n = std::min(kChunkBlocks, rows.n_inputs() - first);
    for (int64_t p = 0; p < n_pair && !in_place; ++p)
      kernel.unpack(w.type, panels[p], first, n, kernel.as_signed, p, scratch.weights);
    TileRun run{.rows = rows.chunk(row_block, first),
                .n_tiles = n_tiles,
                .n_rows = n_rows,
                .weights = scratch.weights,
                .panels = {},
                .n_blocks = n,
                .sums = scratch.sums,
                .first = first == 0,
                .type = w.type,
                .ahead = {},
                .ahead_lines = 0};
    // What follows in the panels: the next chunk, or (two panels on) the first one of the next pair.
    const int64_t lines = kChunkBlocks / form.groups() * form.unit_bytes() / 64;
    const int64_t done = (first + n) / form.groups() * form.unit_bytes();
    const bool more = first + n < rows.n_inputs();
    for (int64_t p = 0; p < kTilePanels; ++p) {
      const char* panel = panels[p < n_pair ? p : 0];
      run.ahead[p] = panel + (more ? done : kTilePanels * bytes);
      if (in_place) run.panels[p] = panel + first / form.groups() * form.unit_bytes();
    }
    run.ahead_lines = (lines + n_tiles - 1) / n_tiles;
    kernel.run(run);
  }
  kernel.finish(part, row, n_rows, pair * kTileOutputs, scratch.sums);
}

int64_t panel_pairs_of(const Weight& w) { return (n_panels(w.n_out) + kTilePanels - 1) / kTilePanels; }

// A part times rows that are in tiles.
void run_part(const Context& ctx, const LinearPart& part, const TiledRows& rows, const Scratch& all) {
  const TileKernel& kernel = *kernel_for(part.w->type);
  // Small enough pieces for all threads to be done at about the same time.
  const int64_t n_pairs = panel_pairs_of(*part.w);
  const int64_t step = std::clamp<int64_t>(n_pairs * rows.n_row_blocks() / (8 * ctx.pool.size()), 1, 8);
  const int64_t n_steps = (n_pairs + step - 1) / step;
  const int64_t work = part.y.n_rows * part.w->n_in * part.w->n_out / 8;
  parallel_for(ctx, rows.n_row_blocks() * n_steps, work, [&](int64_t task, int worker) {
    const Scratch mine{all.weights + worker * kChunkBlocks,
                       all.sums + worker * rows.block_tiles() * kTileSums};
    kernel.begin();
    const int64_t begin = task % n_steps * step, end = std::min(n_pairs, begin + step);
    for (int64_t pair = begin; pair < end; ++pair) run_pair(part, rows, task / n_steps, pair, kernel, mine);
    kernel.end();
  });
}

void run_tiles(const Context& ctx, const Matrix& x, std::span<const LinearPart> parts) {
  const Arena::Scope scope(ctx.arena);
  TiledRows rows;
  Scratch all{};
  for (size_t i = 0; i < parts.size(); ++i) {
    // The zero is not needed where weights become signed.
    RowsForm form = rows_form(parts[i].w->type);
    if (kernel_for(parts[i].w->type)->as_signed) form.zero = 0;
    if (i == 0 || form != rows.form()) {
      rows = TiledRows(ctx, x, form);
      all = {ctx.arena.allocate<WeightsRecord>(kChunkBlocks * ctx.pool.size()),
             ctx.arena.allocate<float>(rows.block_tiles() * kTileSums * ctx.pool.size())};
      parallel_for(ctx, rows.n_tiles(), x.n_rows * x.n_cols, [&](int64_t tile, int) { rows.fill(x, tile); });
    }
    run_part(ctx, parts[i], rows, all);
  }
}

// On all other processors: the kernels of few rows, for as many rows at a time as stay in L2 while all panels
// are multiplied with them.
constexpr int64_t kPanelRows = 64;

void run_panel_rows(const LinearPart& part, const QuantizedRows& q, int64_t row, int64_t panel) {
  const Weight& w = *part.w;
  const int64_t n_rows = std::min(kPanelRows, q.n_rows - row);
  alignas(64) float sums[kPanelRows * kPanelOutputs] = {};
  const PanelRun run{.type = w.type,
                     .ahead = w.walk.ahead,
                     .n_streams = 1,
                     .panels = {static_cast<const char*>(w.data) + panel * panel_bytes(w.type, w.n_in)},
                     .n_units = panel_units(format_of(w.type).panel, w.n_in),
                     .n_rows = n_rows,
                     .sums = sums};
  run_panels(run, q.rows_from(row));
  const int64_t first = panel * kPanelOutputs, n = std::min(kPanelOutputs, w.n_out - first);
  for (int64_t r = 0; r < n_rows; ++r) {
    float* y = part.y.row(row + r) + first;
    for (int64_t o = 0; o < n; ++o) {
      float sum = sums[r * kPanelOutputs + o];
      if (part.bias != nullptr) sum += part.bias[first + o];
      y[o] = part.accumulate ? y[o] + sum : sum;
    }
  }
}

void run_panels_of_rows(const Context& ctx, const Matrix& x, std::span<const LinearPart> parts) {
  const Arena::Scope scope(ctx.arena);
  QuantizedRows q;
  RowsForm quantized_for{};
  for (const LinearPart& part : parts) {
    const RowsForm form = rows_form(part.w->type);
    if (q.values == nullptr || quantized_for != form) q = quantize_rows(ctx, x, form);
    quantized_for = form;
    const int64_t n = n_panels(part.w->n_out);
    parallel_for(ctx, (x.n_rows + kPanelRows - 1) / kPanelRows * n, x.n_rows * x.n_cols * part.w->n_out / 4,
                 [&](int64_t task, int) { run_panel_rows(part, q, task / n * kPanelRows, task % n); });
  }
}

}  // namespace

bool block_rows_are_many(DType type, int64_t n_rows) {
  const TileKernel* kernel = kernel_for(type);
  if (kernel == &kAmx) return n_rows >= 17;
  if (kernel == &kVnniTiles) return n_rows >= (format_of(type).panel.bits == 8 ? 6 : 10);
  return n_rows > kFewRows;
}

void linear_many_blocks(const Context& ctx, const Matrix& x, std::span<const LinearPart> parts) {
  // An instruction set has tiles for all types or for none.
  if (kernel_for(parts.front().w->type) != nullptr) return run_tiles(ctx, x, parts);
  run_panels_of_rows(ctx, x, parts);
}

}  // namespace sepllm
