// y = x W^T + b with weights as stored.
#pragma once

#include <cstdint>
#include <span>

#include "tensor/context.h"
#include "tensor/matrix.h"
#include "tensor/view.h"

namespace sepllm {

// y[r, o] = sum_i x[r, i] * w[o, i] + bias[o]. x: [n, w.n_in], y: [n, w.n_out] (may be columns of a wider
// row; must not overlap x); bias: [n_out] or null. `accumulate`: added to what y holds (a residual stream)
// instead of written over it. Few rows: vector kernels that read the weights once, at the speed of memory.
// Many rows: fixed tiles, converted to f32 in cache, through BLAS; or, where the CPU has AMX, tiles of bf16
// parts in f32's quality (kernels/linear/linear_many_split.h). Block types: by ctx.block_products. The
// result of a row does not depend on the number of threads, nor on the other rows up to kFewRows of them.
void linear(const Context& ctx, const Matrix& x, const Weight& w, const float* bias, const Matrix& y,
            bool accumulate = false);

// Up to this many rows are few: the vector kernels are faster than BLAS, which packs its operands. (Of block
// types fewer are, where tiles of integers are faster yet and give the same bits.)
inline constexpr int64_t kFewRows = 32;

// Several products of the same rows (queries, keys and values; gate and up): few rows are quantised once and
// all outputs shared by the threads in one loop.
struct LinearPart {
  const Weight* w = nullptr;
  const float* bias = nullptr;  // or null
  Matrix y;
  bool accumulate = false;
};
void linear(const Context& ctx, const Matrix& x, std::span<const LinearPart> parts);

// The products of block types by their definition, in the order of additions that every kernel keeps, so that
// results agree bit by bit where there is a fused multiply-add: for each block b of 32 inputs, ascending, sum
// = fma(scale_w * (start + sum_k byte * value), scale_x, sum), in f32 from the exact integer sum; then bias,
// then what y held. x rounded as quantize_rows does. (The f16 scale comes first: its 11 bits times an integer
// near 2^23 are exact, so that a kernel may convert and scale the integer in one fused instruction.)
void linear_blocks_reference(const Context& ctx, const Matrix& x, const Weight& w, const float* bias,
                             const Matrix& y, bool accumulate = false);

// The same computed directly from the definition, in double precision.
void linear_reference(const Matrix& x, const Weight& w, const float* bias, const Matrix& y,
                      bool accumulate = false);

}  // namespace sepllm
