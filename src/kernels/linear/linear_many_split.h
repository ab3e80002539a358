// Products of many rows by dot products of bf16: what the driver (linear_many_split.cc) and the kernels
// (linear_many_split_amx.cc, linear_many_split_bf16.cc, linear_many_split_avx512.cc) share. There are two
// kinds: in the quality of f32, by tiles of AMX, and with operands that are rounded to bf16, for training in
// mixed precision (FloatProducts::kBF16), by AMX or by AVX512_BF16.
//
// In the quality of f32:
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
//
// With rounded operands: w0 x0, both rounded to the nearest bf16 (ties to even), for floating-point weights.
// At most 256 inputs are added up in registers before their sums are added to the total. Numbers below 2^-126
// count as zero. Rows need no exceptions: infinite values and NaN give what they give in f32.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "kernels/linear/linear.h"
#include "tensor/context.h"
#include "tensor/matrix.h"
#include "tensor/view.h"

namespace sepllm {

inline constexpr int64_t kSplitBlock = 32;                       // inputs: a tile's depth
inline constexpr int64_t kSplitGroup = 32;                       // rows: two tiles
inline constexpr int64_t kSplitPair = 32;                        // outputs: two panels, two tiles
inline constexpr int64_t kSplitTile = 16 * kSplitBlock;          // values of a tile of bf16
inline constexpr int64_t kSplitSums = kSplitGroup * kSplitPair;  // floats

// Of how many bf16 the operands are made.
struct SplitForm {
  int64_t row_parts;     // 3, or 1: rounded
  int64_t weight_parts;  // 3, 2 or 1; with one row part 1: rounded

  constexpr bool rounded() const { return row_parts == 1; }
  // Values (16 bits) of a block of a group: [part][tile of rows][row][input].
  constexpr int64_t rows_block() const { return row_parts * 2 * kSplitTile; }
  // Values of a block of a pair of panels of weights of a type: [part][panel][pair of inputs][output][2], and
  // for block types the scales of the outputs as 32 floats.
  int64_t weights_block(DType type) const {
    return weight_parts * 2 * kSplitTile + (is_block_type(type) ? 2 * kSplitPair : 0);
  }
};

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
// plain[r]: whether row r may be multiplied here (rounded rows: always). Needs AVX-512, like the next two
// functions.
void split_rows(const SplitOperand& x, int64_t n_blocks, SplitForm form, uint16_t* to, bool* plain);
// Splits the blocks [first, first + n) of the outputs [out, out + kSplitPair) of W, with zeros beyond it.
// `first` is even, and `out` is a multiple of kSplitPair.
void split_weights(const Weight& w, SplitForm form, int64_t out, int64_t first, int64_t n, uint16_t* to);
// Writes the sums [pairs, 2 tiles of rows, 2 panels, 16 rows, 16 outputs] of a group into y, and adds the
// bias (of its outputs, or null) and, with `accumulate`, what y held. Rows that are not plain are not
// changed.
void finish_split(const float* sums, const bool* plain, const float* bias, const Matrix& y, bool accumulate);

// Blocks of n >= 1 pairs of panels of weights of a type, `stride` values from one to the next.
struct SplitPairs {
  const uint16_t* weights;
  DType type;
  int64_t n, stride;
};
// The next three functions need AMX. begin_split_tiles prepares the tile registers of the calling thread.
void begin_split_tiles();
void end_split_tiles();
// Adds the product of n_blocks blocks of a group and the pairs to the sums of each pair (as above, one after
// the other, 64-byte aligned); without `add` the sums are overwritten. If n_rows <= 16, only the first tile
// of rows is computed.
void multiply_split(SplitForm form, const uint16_t* rows, int64_t n_rows, const SplitPairs& pairs,
                    int64_t n_blocks, bool add, float* sums);
// AVX512_BF16. The same for rounded operands.
void multiply_rounded(const uint16_t* rows, int64_t n_rows, const SplitPairs& pairs, int64_t n_blocks,
                      bool add, float* sums);

// How products of n_rows (many) rows with W are computed here; nothing where they are left to BLAS, because
// it is faster or the processor has no such products. The weights are split again in each pass over the rows;
// for f16 and f32 weights in several parts this pays off only with more rows.
std::optional<SplitForm> split_form(const Context& ctx, const Weight& w, int64_t n_rows);
inline bool by_split(const Context& ctx, const Weight& w, int64_t n_rows) {
  return split_form(ctx, w, n_rows).has_value();
}
// `linear` of the operand, with at least one row, for parts that by_split() accepts.
void linear_many_split(const Context& ctx, const SplitOperand& x, std::span<const LinearPart> parts);

}  // namespace sepllm
