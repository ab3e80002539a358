// The products of few rows with weight matrices: bound by reading the weights, each element once.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/linear/linear.h"
#include "tensor/context.h"
#include "tensor/matrix.h"
#include "tensor/view.h"

namespace sepllm {

// Rows of a transposed matrix's products that are few.
inline constexpr int64_t kMaxColumnRows = 8;

inline bool rows_are_few(const Weight& w, int64_t n_rows) {
  return n_rows <= (w.transposed ? kMaxColumnRows : kFewRows);
}

// `linear` where rows_are_few for each part; operands are checked.
void linear_few_rows(const Context& ctx, const Matrix& x, std::span<const LinearPart> parts);

// How the rows of W, stored as [n_out, n_in], are read: tiles of at least 4 rows whose products are made at a
// time (a single row's additions would wait for each other), from w.walk.streams places that are far apart.
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

// Tiles [begin, end) of RowWalk(a.w). W not transposed. Any number of rows; W comes from memory once as long
// as they are few.
void linear_few_dots(const FewRows& a, int64_t begin, int64_t end);

// Outputs [begin, end), at most kColumnBlock of them, for at most kMaxColumnRows rows. W transposed.
inline constexpr int64_t kColumnBlock = 256;
void linear_few_columns(const FewRows& a, int64_t begin, int64_t end);

}  // namespace sepllm
