#include "kernels/linear/linear_backward.h"

#include <algorithm>
#include <climits>
#include <cstdint>
#include <utility>

#include "base/check.h"
#include "kernels/blas.h"
#include "kernels/formats/element.h"
#include "kernels/formats/rows.h"
#include "kernels/linear/linear_many_split.h"
#include "kernels/parallel.h"

namespace sepllm {
namespace {

// Tiles of the products. Their sizes are fixed (see linear_many.cc), and they are large, because BLAS packs
// both operands again for each tile.
constexpr int64_t kRowTile = 1024;
constexpr int64_t kInTile = 384;   // of dx
constexpr int64_t kOutTile = 384;  // of the sum over outputs, and of dw
constexpr int64_t kBiasColumns = 64, kBiasRows = 16;

int blas_int(int64_t n) {
  SEPLLM_CHECK(n >= 0 && n <= INT_MAX);
  return static_cast<int>(n);
}

// A matrix as BLAS takes it.
struct Tile {
  const float* data;
  int64_t stride;
  bool transposed = false;
};

// to += a b, where `to` is [m, n] and the sums run over k.
void gemm(int64_t m, int64_t n, int64_t k, const Tile& a, const Tile& b, float* to, int64_t to_stride) {
  const auto order = [](const Tile& tile) { return tile.transposed ? CblasTrans : CblasNoTrans; };
  cblas_sgemm(CblasRowMajor, order(a), order(b), blas_int(m), blas_int(n), blas_int(k), 1.0F, a.data,
              blas_int(a.stride), b.data, blas_int(b.stride), 1.0F, to, blas_int(to_stride));
}

// The stored rows and columns of w from (row, column) on, converted into `scratch` unless they are f32.
Tile weight_tile(const Weight& w, int64_t row, int64_t n_rows, int64_t column, int64_t n_columns,
                 float* scratch) {
  const void* from = element_at(w.type, w.data, row * w.row_stride + column);
  if (w.type == DType::kF32) return {static_cast<const float*>(from), w.row_stride};
  for (int64_t r = 0; r < n_rows; ++r)
    row_to_f32(w.type, element_at(w.type, from, r * w.row_stride), n_columns, scratch + r * n_columns);
  return {scratch, n_columns};
}

// Sums of kBiasRows rows are added in double.
void add_bias_gradient(const Context& ctx, const Matrix& dy, float* dbias) {
  parallel_blocks(ctx, dy.n_cols, kBiasColumns, dy.n_rows * dy.n_cols, [&](int64_t begin, int64_t end, int) {
    double sums[kBiasColumns] = {};
    for (int64_t first = 0; first < dy.n_rows; first += kBiasRows) {
      float part[kBiasColumns] = {};
      const int64_t last = std::min(dy.n_rows, first + kBiasRows);
      if (end - begin == kBiasColumns) {  // a length that the compiler knows: vectors
        for (int64_t r = first; r < last; ++r) {
          const float* row = dy.row(r) + begin;
          for (int64_t c = 0; c < kBiasColumns; ++c) part[c] += row[c];
        }
      } else {
        for (int64_t r = first; r < last; ++r) {
          for (int64_t c = begin; c < end; ++c) part[c - begin] += dy.row(r)[c];
        }
      }
      for (int64_t c = 0; c < kBiasColumns; ++c) sums[c] += part[c];
    }
    for (int64_t c = begin; c < end; ++c) dbias[c] += static_cast<float>(sums[c - begin]);
  });
}

}  // namespace

void linear_backward_input(const Context& ctx, const Matrix& dy, const Weight& w, const Matrix& dx) {
  SEPLLM_CHECK(dy.n_cols == w.n_out && dx.n_cols == w.n_in && dy.n_rows == dx.n_rows);
  SEPLLM_CHECK(!is_block_type(w.type));
  Weight turned = w;  // dx = dy (W^T)^T
  std::swap(turned.n_in, turned.n_out);
  turned.transposed = !w.transposed;
  if (by_split(ctx, turned, dy.n_rows)) {
    const LinearPart part{&turned, nullptr, dx, /*accumulate=*/true};
    return linear_many_split(ctx, {dy}, {&part, 1});
  }
  single_threaded_blas();
  const Arena::Scope scope(ctx.arena);
  const bool converts = w.type != DType::kF32;
  float* scratch = converts ? ctx.arena.allocate<float>(kOutTile * kInTile * ctx.pool.size()) : nullptr;
  const int64_t in_tiles = (w.n_in + kInTile - 1) / kInTile;
  const int64_t row_tiles = (dy.n_rows + kRowTile - 1) / kRowTile;
  parallel_for(ctx, in_tiles * row_tiles, dy.n_rows * w.n_in * w.n_out, [&](int64_t task, int worker) {
    const int64_t row = task / in_tiles * kRowTile, n_rows = std::min(kRowTile, dy.n_rows - row);
    const int64_t in = task % in_tiles * kInTile, n_in = std::min(kInTile, w.n_in - in);
    float* own = converts ? scratch + worker * kOutTile * kInTile : nullptr;
    const int64_t step = converts ? kOutTile : w.n_out;
    for (int64_t out = 0; out < w.n_out; out += step) {
      const int64_t n_out = std::min(step, w.n_out - out);
      Tile tile = w.transposed ? weight_tile(w, in, n_in, out, n_out, own)
                               : weight_tile(w, out, n_out, in, n_in, own);
      tile.transposed = w.transposed;
      gemm(n_rows, n_in, n_out, {dy.row(row) + out, dy.stride}, tile, dx.row(row) + in, dx.stride);
    }
  });
}

void linear_backward_weight(const Context& ctx, const Matrix& x, const Matrix& dy, const Weight& w, float* dw,
                            float* dbias) {
  SEPLLM_CHECK(dy.n_cols == w.n_out && x.n_cols == w.n_in && dy.n_rows == x.n_rows);
  single_threaded_blas();
  if (dbias != nullptr) add_bias_gradient(ctx, dy, dbias);
  if (dw == nullptr) return;
  // In the stored order: rows of `left` transposed, times `right`.
  const Matrix& left = w.transposed ? x : dy;
  const Matrix& right = w.transposed ? dy : x;
  const Weight rows{.type = DType::kF32,
                    .data = right.data,
                    .n_out = right.n_cols,
                    .n_in = right.n_rows,
                    .row_stride = right.stride,
                    .transposed = true};
  if (by_split(ctx, rows, left.n_cols)) {
    const LinearPart part{&rows, nullptr, {dw, left.n_cols, right.n_cols, right.n_cols}, /*accumulate=*/true};
    return linear_many_split(ctx, {left, /*transposed=*/true}, {&part, 1});
  }
  const int64_t row_tiles = (left.n_cols + kOutTile - 1) / kOutTile;
  const int64_t column_tiles = (right.n_cols + kRowTile - 1) / kRowTile;
  parallel_for(ctx, row_tiles * column_tiles, x.n_rows * w.n_in * w.n_out, [&](int64_t task, int) {
    const int64_t row = task / column_tiles * kOutTile, n_rows = std::min(kOutTile, left.n_cols - row);
    const int64_t column = task % column_tiles * kRowTile;
    const int64_t n_columns = std::min(kRowTile, right.n_cols - column);
    gemm(n_rows, n_columns, x.n_rows, {left.data + row, left.stride, /*transposed=*/true},
         {right.data + column, right.stride}, dw + row * right.n_cols + column, right.n_cols);
  });
}

void linear_backward_reference(const Matrix& x, const Matrix& dy, const Weight& w, const Matrix& dx,
                               float* dw, float* dbias) {
  const auto weight = [&](int64_t o, int64_t i) {
    const int64_t at = w.transposed ? i * w.row_stride + o : o * w.row_stride + i;
    return static_cast<double>(load_element(w.type, w.data, at));
  };
  for (int64_t r = 0; r < dy.n_rows; ++r) {
    for (int64_t i = 0; i < w.n_in; ++i) {
      double sum = dx.row(r)[i];
      for (int64_t o = 0; o < w.n_out; ++o) sum += dy.row(r)[o] * weight(o, i);
      dx.row(r)[i] = static_cast<float>(sum);
    }
  }
  for (int64_t o = 0; o < w.n_out; ++o) {
    for (int64_t i = 0; dw != nullptr && i < w.n_in; ++i) {
      float& to = dw[w.transposed ? i * w.n_out + o : o * w.n_in + i];
      double sum = to;
      for (int64_t r = 0; r < dy.n_rows; ++r) sum += static_cast<double>(dy.row(r)[o]) * x.row(r)[i];
      to = static_cast<float>(sum);
    }
    double sum = 0;
    for (int64_t r = 0; r < dy.n_rows; ++r) sum += dy.row(r)[o];
    if (dbias != nullptr) dbias[o] += static_cast<float>(sum);
  }
}

}  // namespace sepllm
