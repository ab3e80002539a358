// Integer products of many rows with weights of 4 to 8 bits: what the driver (linear_many_blocks.cc) and the
// kernels (linear_many_amx.cc, linear_many_vnni.cc, linear_many_avx512.cc, linear_many_avx2.cc) share. The
// weights of two panels are brought into the form that a kernel multiplies for a chunk of inputs at a time,
// which stays in L1 while all rows of a block of rows pass; the rows lie in tiles that stay in L2 while all
// panels pass.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/formats/format.h"
#include "kernels/linear/linear.h"
#include "tensor/context.h"

namespace sepllm {

// A tile: 12 rows times 2 panels, so that its sums (and the other values that a kernel needs) fit 32
// registers.
inline constexpr int64_t kTileRows = 12;
inline constexpr int64_t kTilePanels = 2;
inline constexpr int64_t kTileOutputs = 16 * kTilePanels;
inline constexpr int64_t kTileSums = kTileRows * kTileOutputs;

// A record holds one block of 32 inputs; the records of a tile, or of a pair of panels, follow each other.
struct RowsRecord {
  int8_t values[kTileRows][kGroupElements];
  float scales[16];  // of the rows
  union {
    int32_t starts[16];  // QuantizedRows::starts, of the first part
    float sums[16];      // QuantizedRows::sums, where weights have minima (their starts are 0)
  };
};
// Where each half of a group of weights has a scale.
struct HalvesRecord : RowsRecord {
  int32_t second_starts[16];
};
struct WeightsRecord {
  // Lines of a panel (kernels/formats/panels.h), one byte for each element: unsigned, as in the panel, or
  // signed (TileKernel::as_signed).
  uint8_t values[kTilePanels][8][64];
  // `second` is the minimum, or the scale of the second half, where weights have these; else -kFloatBias
  // times the scale: an integer sum s as the float kFloatBias + s, times the scale, plus that, is scale * s,
  // rounded once (a product of 13 bits and 2^22 is exact).
  struct {
    float scale[16], second[16];
  } outputs[kTilePanels];
};
inline constexpr float kFloatBias = 12582912.0F;  // 1.5 * 2^23
inline constexpr int32_t kFloatBiasBits =
    0x4B400000;  // its bits; + s for |s| < 2^22: those of kFloatBias + s

// sums [n_tiles, kTilePanels, kTileRows, 16] += tiles times weights, in the order of linear_blocks_reference.
struct TileRun {
  const RowsRecord* rows;  // [n_tiles, n_blocks]; HalvesRecords where parts == 2
  int64_t n_tiles;
  int64_t n_rows;                   // of all tiles: rows of the last one beyond it may be left out
  const WeightsRecord* weights;     // [n_blocks], or
  const char* panels[kTilePanels];  // for kernels that read panels of bytes as they are (else null)
  int64_t n_blocks;                 // even, at least 2
  float* sums;                      // 64-byte aligned
  bool first;                       // `sums` holds nothing yet
  DType type;                       // of the weights
  // What comes next of the two panels, fetched meanwhile: lines of each, for each tile.
  const char* ahead[kTilePanels];
  int64_t ahead_lines;
};

// What an instruction set has for a type of weights.
struct TileKernel {
  bool as_signed;     // weights become signed: groups with one scale and no minimum
  bool reads_panels;  // of bytes, where they lie
  // What a thread needs prepared while it calls run (AMX's tile registers).
  void (*begin)();
  void (*run)(const TileRun& run);
  void (*end)();
  // Brings the blocks [first, first + n) of panel `index` of the two into records. Both are multiples of the
  // groups of a unit.
  void (*unpack)(DType type, const char* panel, int64_t first, int64_t n, bool as_signed, int64_t index,
                 WeightsRecord* to);
  // Writes the sums of the rows [row, row + n_rows) into the outputs [out, out + kTileOutputs) of `part`, as
  // far as it has so many.
  void (*finish)(const LinearPart& part, int64_t row, int64_t n_rows, int64_t out, const float* sums);
};

void begin_tiles_amx();
void end_tiles_amx();
void run_tiles_amx(const TileRun& run);
void run_tiles_vnni(const TileRun& run);
// Products of bytes that are added up in pairs to 16 bits: for processors without integer dot products.
// Values of 8 bits signed, others unsigned.
void run_tiles_avx512(const TileRun& run);
void run_tiles_avx2(const TileRun& run);

void unpack_panel_avx512(DType type, const char* panel, int64_t first, int64_t n, bool as_signed,
                         int64_t index, WeightsRecord* to);
void unpack_panel_avx2(DType type, const char* panel, int64_t first, int64_t n, bool as_signed, int64_t index,
                       WeightsRecord* to);
void finish_tiles_avx512(const LinearPart& part, int64_t row, int64_t n_rows, int64_t out, const float* sums);
void finish_tiles_avx2(const LinearPart& part, int64_t row, int64_t n_rows, int64_t out, const float* sums);

// Whether so many rows of a type pass faster through linear_many_blocks than through the kernels of few rows;
// either way gives the same bits. With tiles of AMX the products of 9 rows are as fast and those of 24 twice
// as fast, but the kernels of few rows read the weights faster: from memory 12 rows lose by tiles and 16 do
// not. With VNNI 6 rows of 8-bit weights and 10 of others are as fast by tiles as by the kernels of few rows,
// with one thread and with two, and more rows are faster.
bool block_rows_are_many(DType type, int64_t n_rows);
// The parts have block types and as many inputs as x has columns; at least one row.
void linear_many_blocks(const Context& ctx, const Matrix& x, std::span<const LinearPart> parts);

}  // namespace sepllm
