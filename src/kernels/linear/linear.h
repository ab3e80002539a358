// y = x W^T + b with weights as stored.
#pragma once

#include <cstdint>
#include <span>

#include "tensor/context.h"
#include "tensor/matrix.h"
#include "tensor/view.h"

namespace sepllm {

// y[r, o] = sum_i x[r, i] * w[o, i] + bias[o]. x: [n, w.n_in]; y: [n, w.n_out], which may be columns of a
// wider row and must not overlap x; bias: [n_out] or null. With `accumulate` the product is added to what y
// holds (a residual stream); otherwise it replaces it. Few rows go through vector kernels that read the
// weights once, at the speed of memory. Many rows go through BLAS, in fixed tiles of weights that are
// converted to f32 in cache; or, where the CPU has AMX, through tiles of bf16 parts with the quality of f32
// (kernels/linear/linear_many_split.h). Block types are multiplied as ctx.block_products says. The result of
// a row does not depend on the number of threads; with up to kFewRows rows it does not depend on the other
// rows either.
void linear(const Context& ctx, const Matrix& x, const Weight& w, const float* bias, const Matrix& y,
            bool accumulate = false);

// Up to this many rows count as few: for them the vector kernels are faster than BLAS, which first packs its
// operands. (For block types the number is smaller where tiles of integers are faster still; they give the
// same bits.)
inline constexpr int64_t kFewRows = 32;

// Several products of the same rows (queries, keys and values; gate and up). Few rows are quantised only
// once, and the threads share the outputs of all parts in one loop.
struct LinearPart {
  const Weight* w = nullptr;
  const float* bias = nullptr;  // or null
  Matrix y;
  bool accumulate = false;
};
void linear(const Context& ctx, const Matrix& x, std::span<const LinearPart> parts);

// The products of block types by their definition, in the order of additions that every kernel keeps, so that
// results agree bit by bit where there is a fused multiply-add: for each block b of 32 inputs, ascending, and
// each part of it that has a scale, sum = fma(scale_w * (start + sum_k byte * value), scale_x, sum), in f32
// from the exact integer sum; then, where weights have minima, sum = fma(minimum, sum_x, sum); then bias,
// then what y held. x rounded as quantize_rows does. (The scale of the weights comes first: its 18 bits at
// most times an integer near 2^23 are exact to a kernel that converts and scales the integer in one fused
// instruction.)
void linear_blocks_reference(const Context& ctx, const Matrix& x, const Weight& w, const float* bias,
                             const Matrix& y, bool accumulate = false);

// The same computed directly from the definition, in double precision.
void linear_reference(const Matrix& x, const Weight& w, const float* bias, const Matrix& y,
                      bool accumulate = false);

}  // namespace sepllm
