#include "kernels/linear/linear_few.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/formats/panels.h"
#include "kernels/formats/quantized_rows.h"
#include "kernels/linear/linear_blocks.h"
#include "kernels/parallel.h"

namespace sepllm {
namespace {

// Panels of a stream.
int64_t stream_panels(const Weight& w) { return (n_panels(w.n_out) + w.walk.streams - 1) / w.walk.streams; }

// The units that a part is cut into, and the bytes of W that belong to one of them.
struct Units {
  int64_t count, bytes;
};
Units units_of(const Weight& w) {
  if (is_block_type(w.type)) return {stream_panels(w), w.walk.streams * panel_bytes(w.type, w.n_in)};
  if (w.transposed) return {(w.n_out + 63) / 64, 64 * w.n_in * dtype_size(w.type)};
  const RowWalk walk(w);
  return {walk.n_tiles, walk.tile_rows() * w.n_in * dtype_size(w.type)};
}

// A task: the units [begin, end) of a part.
struct Piece {
  const LinearPart* part;
  int64_t begin, end;
};

// The last pieces are small, for threads that are done early, so the first pieces can be large.
constexpr int64_t kLeastPieceBytes = 32 * 1024;

// Cuts the parts into pieces for n_threads threads, or only counts them (`pieces` null).
int64_t cut(std::span<const LinearPart> parts, int64_t n_threads, Piece* pieces) {
  int64_t left = 0;
  for (const LinearPart& p : parts) left += units_of(*p.w).count * units_of(*p.w).bytes;
  int64_t n = 0;
  for (const LinearPart& p : parts) {
    const Units units = units_of(*p.w);
    for (int64_t begin = 0; begin < units.count;) {
      const int64_t bytes = n_threads == 1 ? left : std::max(kLeastPieceBytes, left / (4 * n_threads));
      const int64_t end =
          std::min(units.count, begin + std::max<int64_t>(1, bytes / std::max<int64_t>(1, units.bytes)));
      if (pieces != nullptr) pieces[n] = {&p, begin, end};
      left -= (end - begin) * units.bytes;
      begin = end;
      ++n;
    }
  }
  return n;
}

// The rows in the forms that block types need, which are made once for all parts.
struct Operands {
  // Rounded rows differ by what a form of panels needs of them (RowsForm).
  QuantizedRows rounded[kPanelKinds];
  Matrix padded;  // rows of whole units of all forms

  static size_t kind(DType type) { return static_cast<size_t>(format_of(type).panel.kind); }
  const QuantizedRows& rounded_for(DType type) const { return rounded[kind(type)]; }
};

Matrix pad_rows(const Context& ctx, const Matrix& x, int64_t width) {
  if (width == x.n_cols) return x;
  const Matrix padded{ctx.arena.allocate<float>(x.n_rows * width), x.n_rows, width, width};
  for (int64_t r = 0; r < x.n_rows; ++r) {
    std::copy_n(x.row(r), x.n_cols, padded.row(r));
    std::fill(padded.row(r) + x.n_cols, padded.row(r) + width, 0.0F);
  }
  return padded;
}

Operands make_operands(const Context& ctx, const Matrix& x, std::span<const LinearPart> parts) {
  Operands made;
  int64_t width = 0;
  for (const LinearPart& p : parts) {
    if (!is_block_type(p.w->type)) continue;
    if (ctx.block_products == BlockProducts::kExact) {
      width = std::max(width, panel_pairs(format_of(p.w->type).panel, x.n_cols) * kPairElements);
    } else {
      QuantizedRows& rounded = made.rounded[Operands::kind(p.w->type)];
      if (rounded.values == nullptr) rounded = quantize_rows(ctx, x, rows_form(p.w->type));
    }
  }
  if (width > 0) made.padded = pad_rows(ctx, x, width);
  return made;
}

// Writes a panel's sums into its columns of y.
void finish_panel(const LinearPart& part, int64_t panel, const float* sums, int64_t n_rows) {
  const int64_t first = panel * kPanelOutputs;
  const int64_t n = std::min(kPanelOutputs, part.w->n_out - first);
  for (int64_t r = 0; r < n_rows; ++r, sums += kPanelOutputs) {
    float* y = part.y.row(r) + first;
    for (int64_t o = 0; o < n; ++o) {
      const float sum = part.bias != nullptr ? sums[o] + part.bias[first + o] : sums[o];
      y[o] = part.accumulate ? y[o] + sum : sum;
    }
  }
}

void run_block_piece(const Context& ctx, const Piece& piece, const Operands& x) {
  const Weight& w = *piece.part->w;
  const int64_t length = stream_panels(w), bytes = panel_bytes(w.type, w.n_in);
  const int64_t n_rows = piece.part->y.n_rows;
  alignas(64) float sums[kMostStreams * kFewRows * kPanelOutputs];
  PanelRun run{.type = w.type,
               .ahead = w.walk.ahead,
               .n_units = panel_units(format_of(w.type).panel, w.n_in),
               .n_rows = n_rows,
               .sums = sums};
  for (int64_t i = piece.begin; i < piece.end; ++i) {
    run.n_streams = 0;
    for (int64_t panel = i; panel < n_panels(w.n_out); panel += length)
      run.panels[run.n_streams++] = static_cast<const char*>(w.data) + panel * bytes;
    std::fill_n(sums, run.n_streams * n_rows * kPanelOutputs, 0.0F);
    if (ctx.block_products == BlockProducts::kExact) {
      run_panels_exact(run, x.padded.data, x.padded.stride);
    } else {
      run_panels(run, x.rounded_for(w.type));
    }
    for (int64_t s = 0; s < run.n_streams; ++s)
      finish_panel(*piece.part, i + s * length, run.sum(s, 0), n_rows);
  }
}

void run_piece(const Context& ctx, const Matrix& x, const Piece& piece, const Operands& operands) {
  const LinearPart& p = *piece.part;
  if (is_block_type(p.w->type)) return run_block_piece(ctx, piece, operands);
  const FewRows a{x, *p.w, p.bias, p.y, p.accumulate};
  if (!p.w->transposed) return linear_few_dots(a, piece.begin, piece.end);
  const int64_t end = std::min(p.w->n_out, piece.end * 64);
  for (int64_t o = piece.begin * 64; o < end; o += kColumnBlock)
    linear_few_columns(a, o, std::min(end, o + kColumnBlock));
}

}  // namespace

void linear_few_rows(const Context& ctx, const Matrix& x, std::span<const LinearPart> parts) {
  const Arena::Scope scope(ctx.arena);
  const Operands operands = make_operands(ctx, x, parts);
  int64_t work = 0;  // a quarter of the multiply-adds where the integer kernels make them
  for (const LinearPart& p : parts) {
    const int64_t products = x.n_rows * p.w->n_in * p.w->n_out;
    work +=
        is_block_type(p.w->type) && ctx.block_products == BlockProducts::kInteger ? products / 4 : products;
  }
  const int64_t n_threads = work < kSerialWork ? 1 : ctx.pool.size();
  const int64_t n_pieces = cut(parts, n_threads, nullptr);
  auto* pieces = ctx.arena.allocate<Piece>(n_pieces);
  cut(parts, n_threads, pieces);
  parallel_for(ctx, n_pieces, work, [&](int64_t t, int) { run_piece(ctx, x, pieces[t], operands); });
}

}  // namespace sepllm
