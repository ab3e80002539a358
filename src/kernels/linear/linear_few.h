// The products of few rows with weight matrices. They are limited by reading the weights, so each element is
// read once.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/linear/linear.h"
#include "tensor/context.h"
#include "tensor/matrix.h"
#include "tensor/view.h"

namespace sepllm {

// Up to this many rows count as few in products with a transposed matrix.
inline constexpr int64_t kMaxColumnRows = 8;

inline bool rows_are_few(const Weight& w, int64_t n_rows) {
  return n_rows <= (w.transposed ? kMaxColumnRows : kFewRows);
}

// `linear` for parts that all have few rows (rows_are_few). The caller has checked the operands.
void linear_few_rows(const Context& ctx, const Matrix& x, std::span<const LinearPart> parts);

// The order in which the rows of W, stored as [n_out, n_in], are read: in tiles of at least 4 rows, whose
// products are made at the same time (the additions of a single row would wait for each other), from
// w.walk.streams places that are far apart.
struct RowWalk {
  explicit RowWalk(const Weight& w) : streams(w.walk.streams), adjacent(streams < 4 ? 4 / streams : 1) {
    n_tiles = (w.n_out + tile_rows() - 1) / tile_rows();
  }
  int64_t tile_rows() const { return streams * adjacent; }
  // Row j < adjacent of stream s in a tile; may be beyond the last row of W.
  int64_t row(int64_t tile, int64_t s, int64_t j) const { return (s * n_tiles + tile) * adjacent + j; }

  int64_t streams, adjacent;
  int64_t n_tiles;
};

// One part of stored elements (f32, f16, bf16), as the vector kernels take it.
struct FewRows {
  Matrix x;
  Weight w;
  const float* bias;  // or null
  Matrix y;
  bool accumulate;
};

// Computes the tiles [begin, end) of RowWalk(a.w), where W is not transposed. Any number of rows is allowed;
// if they are few, W comes from memory only once.
void linear_few_dots(const FewRows& a, int64_t begin, int64_t end);

// Computes the outputs [begin, end), at most kColumnBlock of them, for at most kMaxColumnRows rows, where W
// is transposed.
inline constexpr int64_t kColumnBlock = 256;
void linear_few_columns(const FewRows& a, int64_t begin, int64_t end);

}  // namespace sepllm
