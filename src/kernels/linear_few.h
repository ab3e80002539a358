// The products of few rows with a weight matrix: bound by reading the weights, each element once.
#pragma once

#include <cstdint>

#include "kernels/context.h"
#include "tensor/matrix.h"
#include "tensor/view.h"

namespace sepllm {

struct FewRows {
  Matrix x;
  Weight w;
  const float* bias;  // or null
  Matrix y;
  bool accumulate;

  // Rows of W are read in four streams that begin a quarter of the matrix apart.
  int64_t quarter() const { return (w.n_out + 3) / 4; }
};

// `linear` for few rows of stored types (f32, f16, bf16); operands are checked.
void linear_few_rows(const Context& ctx, const FewRows& a);

// Outputs i, i + quarter, i + 2 quarter, i + 3 quarter for i in [begin, end) of [0, quarter). W not
// transposed. Any number of rows; W comes from memory once as long as they are few.
void linear_few_dots(const FewRows& a, int64_t begin, int64_t end);

// Outputs [begin, end), at most kColumnBlock of them, for at most kMaxColumnRows rows. W transposed.
inline constexpr int64_t kColumnBlock = 256;
inline constexpr int64_t kMaxColumnRows = 8;
void linear_few_columns(const FewRows& a, int64_t begin, int64_t end);

}  // namespace sepllm
