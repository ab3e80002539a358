// Products of many rows in the quality of f32 by tiles of bf16 (AMX): what the driver (linear_many_split.cc)
// and the kernels (linear_many_split_amx.cc, linear_many_split_avx512.cc) share.
//
// A float is the sum of three bf16, each made of the next 8 bits of its significand. A product of two bf16 is
// exact in f32, where the tiles add it up. So a product of x with weights that are bf16 themselves, or the
// integers of a block type, is three products of tiles; f16 weights are two bf16, f32 weights three, and
// products of parts below 2^-24 of the whole are left out:
//
//   q8_0, q4_0, bf16: w (x0 + x1 + x2);  f16: w0 (x0 + x1 + x2) + w1 (x0 + x1);
//   f32: w0 (x0 + x1 + x2) + w1 (x0 + x1) + w2 x0
//
// The scale of a block of 32 inputs, as deep as a tile, is applied to its sum. Sums of 128 inputs at most are
// made in a tile before they are added to those of the others, so errors do not grow as in one long sum.
//
// Tiles take and give zeros for anything below 2^-126, so the lower parts of floats below 2^-110 are lost:
// an error of 2^-126 |w| for an input, beside what f32 has. Rows whose largest value is not in [2^-80, 2^112]
// (infinite, NaN, so large that sums could exceed f32 before the scale is applied, or tiny) are left to
// BLAS. An infinite weight gives an infinite or NaN output.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/linear/linear.h"
#include "tensor/context.h"
#include "tensor/matrix.h"
#include "tensor/view.h"

namespace sepllm {

inline constexpr int64_t kSplitBlock = 32;  // inputs: a tile's depth
inline constexpr int64_t kSplitGroup = 32;  // rows: two tiles
inline constexpr int64_t kSplitPair = 32;   // outputs: two panels, two tiles
inline constexpr int64_t kSplitParts = 3;
inline constexpr int64_t kSplitTile = 16 * kSplitBlock;          // values of a tile of bf16
inline constexpr int64_t kSplitSums = kSplitGroup * kSplitPair;  // floats

// Values (16 bits) of a block of a group: [part][tile of rows][row][input].
inline constexpr int64_t kSplitRowsBlock = kSplitParts * 2 * kSplitTile;

// Parts of a weight.
inline int64_t split_parts(DType type) { return type == DType::kF32 ? 3 : type == DType::kF16 ? 2 : 1; }
// Values of a block of a pair of panels: [part][panel][pair of inputs][output][2], and for block types the
// scales of the outputs as 32 floats.
inline int64_t split_weights_block(DType type) {
  return split_parts(type) * 2 * kSplitTile + (is_block_type(type) ? 2 * kSplitPair : 0);
}

// The operand that is multiplied with W: the rows of a matrix, or its columns.
struct SplitOperand {
  Matrix matrix;
  bool transposed = false;  // the columns

  int64_t n_rows() const { return transposed ? matrix.n_cols : matrix.n_rows; }
  int64_t n_in() const { return transposed ? matrix.n_rows : matrix.n_cols; }
  // Rows [row, row + n) of the operand, and inputs [in, in + n).
  SplitOperand rows(int64_t row, int64_t n) const {
    return {transposed ? matrix.columns(row, n) : matrix.rows(row, n), transposed};
  }
  SplitOperand inputs(int64_t in, int64_t n) const {
    return {transposed ? matrix.rows(in, n) : matrix.columns(in, n), transposed};
  }
};

// AVX-512. A group of at most kSplitGroup rows in n_blocks blocks, inputs and rows beyond x zero.
// plain[r]: whether row r may be multiplied by tiles.
void split_rows(const SplitOperand& x, int64_t n_blocks, uint16_t* to, bool* plain);
// Blocks [first, first + n) of the outputs [out, out + kSplitPair) of W, zero beyond it. `first` even; out a
// multiple of kSplitPair.
void split_weights(const Weight& w, int64_t out, int64_t first, int64_t n, uint16_t* to);
// sums [2 tiles of rows, 2 panels, 16 rows, 16 outputs] of a group into y, bias (of these outputs, or null)
// and, if `accumulate`, what it held added; rows that are not plain are not changed.
void finish_split(const float* sums, const bool* plain, const float* bias, const Matrix& y, bool accumulate);

// AMX. The tile registers of a thread are prepared by begin_split_tiles.
void begin_split_tiles();
void end_split_tiles();
// Blocks of n >= 1 pairs of panels, `stride` values from one to the next.
struct SplitPairs {
  const uint16_t* weights;
  int64_t n, stride;
};
// sums of each pair (as above, one after the other, 64-byte aligned) += the product of n_blocks blocks of a
// group, of which only the first tile of rows is made if n_rows <= 16, and the pairs; without `add` they are
// written over.
void multiply_split(DType type, const uint16_t* rows, int64_t n_rows, const SplitPairs& pairs,
                    int64_t n_blocks, bool add, float* sums);

// Whether products of n_rows (many) rows with W are computed here: if that is faster than through BLAS. The
// weights are split again for each pass of rows, which pays for f16 and f32 weights only with more rows.
bool by_split(const Context& ctx, const Weight& w, int64_t n_rows);
// `linear` of the operand for parts for which by_split; at least one row.
void linear_many_split(const Context& ctx, const SplitOperand& x, std::span<const LinearPart> parts);

}  // namespace sepllm
