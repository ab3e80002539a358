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

// One part of stored elements (f32, f16, bf16), as the vector kernels take it.
struct FewRows {
  Matrix x;
  Weight w;
  const float* bias;  // or null
  Matrix y;
  bool accumulate;

  // Rows of W are read in four streams that begin a quarter of the matrix apart.
  int64_t quarter() const { return (w.n_out + 3) / 4; }
};

// Outputs i, i + quarter, i + 2 quarter, i + 3 quarter for i in [begin, end) of [0, quarter). W not
// transposed. Any number of rows; W comes from memory once as long as they are few.
void linear_few_dots(const FewRows& a, int64_t begin, int64_t end);

// Outputs [begin, end), at most kColumnBlock of them, for at most kMaxColumnRows rows. W transposed.
inline constexpr int64_t kColumnBlock = 256;
void linear_few_columns(const FewRows& a, int64_t begin, int64_t end);

}  // namespace sepllm
