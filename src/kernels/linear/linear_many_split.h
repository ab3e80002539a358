// Products of many rows in the quality of f32 by tiles of bf16 (AMX): what the driver (linear_many_split.cc)
// and the kernels (linear_many_split_amx.cc, linear_many_split_avx512.cc) share.
//
// A float is the sum of three bf16 numbers, each made of the next 8 bits of its significand. A product of two
// bf16 numbers is exact in f32, in which the tiles add. So a product of x with weights that are bf16
// themselves, or the integers of a block type, takes three products of tiles. An f16 weight is the sum of two
// bf16 numbers, an f32 weight of three; products of parts that are below 2^-24 of the whole are left out:
//
//   q8_0, q4_0, bf16: w (x0 + x1 + x2);  f16: w0 (x0 + x1 + x2) + w1 (x0 + x1);
//   f32: w0 (x0 + x1 + x2) + w1 (x0 + x1) + w2 x0
//
// A block of 32 inputs is as deep as a tile, and its scale is applied to its sum. A tile adds up at most 128
// inputs before its sums are added to the total, so errors do not grow as they do in one long sum.
//
// Tiles read and write zeros for anything below 2^-126, so the lower parts of floats below 2^-110 are lost.
// This is an error of 2^-126 |w| for an input, in addition to the error of f32. Rows whose largest value is
// not in [2^-80, 2^112] (infinite, NaN, so large that sums could exceed f32 before the scale is applied, or
// tiny) are left to BLAS. An infinite weight gives an infinite or NaN output.
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
// Values of a block of a pair of panels: [part][panel][pair of inputs][output][2]; block types have the
// scales of the outputs after them, as 32 floats.
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

// Splits a group of at most kSplitGroup rows into n_blocks blocks, with zeros for inputs and rows beyond x.
// plain[r]: whether row r may be multiplied by tiles. Needs AVX-512, like the next two functions.
void split_rows(const SplitOperand& x, int64_t n_blocks, uint16_t* to, bool* plain);
// Splits the blocks [first, first + n) of the outputs [out, out + kSplitPair) of W, with zeros beyond it.
// `first` is even, and `out` is a multiple of kSplitPair.
void split_weights(const Weight& w, int64_t out, int64_t first, int64_t n, uint16_t* to);
// Writes the sums [2 tiles of rows, 2 panels, 16 rows, 16 outputs] of a group into y, and adds the bias (of
// these outputs, or null) and, with `accumulate`, what y held. Rows that are not plain are not changed.
void finish_split(const float* sums, const bool* plain, const float* bias, const Matrix& y, bool accumulate);

// These three functions need AMX. begin_split_tiles prepares the tile registers of the calling thread.
void begin_split_tiles();
void end_split_tiles();
// Blocks of n >= 1 pairs of panels, `stride` values from one to the next.
struct SplitPairs {
  const uint16_t* weights;
  int64_t n, stride;
};
// Adds the product of n_blocks blocks of a group and the pairs to the sums of each pair (as above, one after
// the other, 64-byte aligned); without `add` the sums are overwritten. If n_rows <= 16, only the first tile
// of rows is computed.
void multiply_split(DType type, const uint16_t* rows, int64_t n_rows, const SplitPairs& pairs,
                    int64_t n_blocks, bool add, float* sums);

// Whether products of n_rows (many) rows with W are computed here, because this is faster than BLAS. The
// weights are split again in each pass over the rows; for f16 and f32 weights this pays off only with more
// rows.
bool by_split(const Context& ctx, const Weight& w, int64_t n_rows);
// `linear` of the operand, with at least one row, for parts that by_split() accepts.
void linear_many_split(const Context& ctx, const SplitOperand& x, std::span<const LinearPart> parts);

}  // namespace sepllm
