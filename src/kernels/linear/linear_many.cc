#include "kernels/linear/linear_many.h"

#include <algorithm>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/check.h"
#include "kernels/blas.h"
#include "kernels/formats/element.h"
#include "kernels/formats/panels.h"
#include "kernels/formats/rows.h"
#include "kernels/linear/linear_many_blocks.h"
#include "kernels/linear/linear_many_split.h"
#include "kernels/parallel.h"

namespace sepllm {
namespace {

// Tiles of the product through BLAS. They depend only on the shape, so that a result does not depend on the
// number of threads. A converted tile of W (at most kMostOut x kTileIn floats) stays in L2 while all rows are
// multiplied with it. BLAS packs the rows again for each tile of outputs: with tiles of 128 outputs, 16-bit
// weights take about 15 % more time than with tiles of 512.
constexpr int64_t kRowTile = 512;
constexpr int64_t kMostOut = 512;
constexpr int64_t kLeastOut = 128;
constexpr int64_t kTileIn = 1024;
// Elements between the rows of converted panels. Rows at a distance of a power of two would share a few sets
// of the cache.
constexpr int64_t kApart = 16;

// The outputs of a tile, in whole panels. The number of tiles is even and at least four, so that threads can
// share them.
int64_t tile_outputs(int64_t n_out) {
  const int64_t n_tiles = std::max<int64_t>(4, 2 * ((n_out + 2 * kMostOut - 1) / (2 * kMostOut)));
  return std::max(kLeastOut, n_panels((n_out + n_tiles - 1) / n_tiles) * kPanelOutputs);
}

// A block of W that BLAS can read: where it lies, its leading dimension, and its order.
struct Block {
  const float* data;
  int64_t stride;
  bool transposed;  // [inputs, outputs]
};

// The outputs [out, out + n_out) and inputs [in, in + n_in) of W, in the layout in which it is stored,
// converted into `scratch` unless they are f32.
Block weight_block(const Weight& w, int64_t out, int64_t n_out, int64_t in, int64_t n_in, float* scratch) {
  if (is_block_type(w.type)) {
    // Whole panels; `scratch` has room for them.
    const int64_t n_columns = n_panels(n_out) * kPanelOutputs, bytes = panel_bytes(w.type, w.n_in);
    const int64_t stride = n_columns + kApart;
    for (int64_t o = 0; o < n_columns; o += kPanelOutputs) {
      const char* panel = static_cast<const char*>(w.data) + (out + o) / kPanelOutputs * bytes;
      panel_to_f32(w.type, panel, in, n_in, scratch + o, stride);
    }
    return {scratch, stride, true};
  }
  const int64_t row = w.transposed ? in : out;
  const int64_t column = w.transposed ? out : in;
  const void* from = element_at(w.type, w.data, row * w.row_stride + column);
  if (w.type == DType::kF32 && w.row_stride <= INT_MAX)
    return {static_cast<const float*>(from), w.row_stride, w.transposed};
  const int64_t n_rows = w.transposed ? n_in : n_out;
  const int64_t n_columns = w.transposed ? n_out : n_in;
  for (int64_t r = 0; r < n_rows; ++r) {
    row_to_f32(w.type, element_at(w.type, from, r * w.row_stride), n_columns, scratch + r * n_columns);
  }
  return {scratch, n_columns, w.transposed};
}

// The content of y before the products are added: zero or the bias, plus its old content if `accumulate`.
void start_rows(const Matrix& y, const float* bias, bool accumulate) {
  for (int64_t r = 0; r < y.n_rows; ++r) {
    float* row = y.row(r);
    if (!accumulate) {
      if (bias != nullptr) {
        std::copy_n(bias, y.n_cols, row);
      } else {
        std::fill_n(row, y.n_cols, 0.0F);
      }
    } else if (bias != nullptr) {
      for (int64_t c = 0; c < y.n_cols; ++c) row[c] += bias[c];
    }
  }
}

bool in_integers(const Context& ctx, const LinearPart& part) {
  return is_block_type(part.w->type) && ctx.block_products == BlockProducts::kInteger;
}

}  // namespace

int64_t blas_scratch(int64_t n_out) { return (n_panels(n_out) * kPanelOutputs + kApart) * kTileIn; }

void blas_tile(const Matrix& x, const Weight& w, int64_t out, const float* bias, const Matrix& y,
               bool accumulate, float* scratch) {
  single_threaded_blas();
  start_rows(y, bias != nullptr ? bias + out : nullptr, accumulate);
  for (int64_t in = 0; in < w.n_in; in += kTileIn) {
    const int64_t n_in = std::min(kTileIn, w.n_in - in);
    const Block block = weight_block(w, out, y.n_cols, in, n_in, scratch);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, block.transposed ? CblasNoTrans : CblasTrans,
                static_cast<int>(x.n_rows), static_cast<int>(y.n_cols), static_cast<int>(n_in), 1.0F,
                x.data + in, static_cast<int>(x.stride), block.data, static_cast<int>(block.stride), 1.0F,
                y.data, static_cast<int>(y.stride));
  }
}

void linear_through_blas(const Context& ctx, const Matrix& x, const LinearPart& part) {
  const Weight& w = *part.w;
  const Matrix& y = part.y;
  SEPLLM_CHECK(x.stride <= INT_MAX && y.stride <= INT_MAX);
  const Arena::Scope scope(ctx.arena);
  const int64_t tile_out = tile_outputs(w.n_out), scratch_size = blas_scratch(tile_out);
  float* scratch = ctx.arena.allocate<float>(scratch_size * ctx.pool.size());
  const int64_t n_out_tiles = (w.n_out + tile_out - 1) / tile_out;
  const int64_t n_row_tiles = (x.n_rows + kRowTile - 1) / kRowTile;
  parallel_for(ctx, n_out_tiles * n_row_tiles, x.n_rows * w.n_in * w.n_out, [&](int64_t task, int worker) {
    const int64_t row = task / n_out_tiles * kRowTile;
    const int64_t out = task % n_out_tiles * tile_out;
    const int64_t n_rows = std::min(kRowTile, x.n_rows - row);
    const int64_t n_out = std::min(tile_out, w.n_out - out);
    blas_tile(x.rows(row, n_rows), w, out, part.bias, y.rows(row, n_rows).columns(out, n_out),
              part.accumulate, scratch + worker * scratch_size);
  });
}

void linear_many_rows(const Context& ctx, const Matrix& x, std::span<const LinearPart> parts) {
  // Neighbouring parts that are computed in the same way share the rounded or split rows.
  const auto end_of = [&](size_t i, const auto& fits) {
    while (i < parts.size() && fits(parts[i])) ++i;
    return i;
  };
  for (size_t i = 0; i < parts.size();) {
    size_t end = end_of(i, [&](const LinearPart& p) { return in_integers(ctx, p); });
    if (end > i) {
      linear_many_blocks(ctx, x, parts.subspan(i, end - i));
    } else if (const auto form = split_form(ctx, *parts[i].w, x.n_rows); form.has_value()) {
      end = end_of(i, [&](const LinearPart& p) {
        const auto other = split_form(ctx, *p.w, x.n_rows);
        return !in_integers(ctx, p) && other.has_value() && other->row_parts == form->row_parts;
      });
      linear_many_split(ctx, {x}, parts.subspan(i, end - i));
    } else {
      if (parts[i].w->n_out > 0) linear_through_blas(ctx, x, parts[i]);
      end = i + 1;
    }
    i = end;
  }
}

}  // namespace sepllm
