// Activations as the integer kernels read them: rows rounded to 8 bits, with a scale for each group
// of 32 (kernels/formats/format.h), here also called a block.
#pragma once

#include <cstdint>

#include "kernels/formats/format.h"
#include "tensor/context.h"
#include "tensor/matrix.h"

namespace sepllm {

// What a form of panels needs of rounded rows.
struct RowsForm {
  int zero;        // the stored value of weights that means 0
  int parts;       // scales of a group of weights: 1, or 2, of its halves
  bool sums;       // for the minima of weights
  int64_t blocks;  // rows are filled up with zeros to a multiple of so many blocks

  bool operator==(const RowsForm&) const = default;
};
inline RowsForm rows_form(DType type) {
  const PanelForm& form = format_of(type).panel;
  return {form.zero, form.parts(), form.has_minima(), form.groups()};
}

// Where the blocks of one row are written: the first one's values, scale and so on, and the steps from one
// block to the next, so that kernels can have them in the order in which they read them.
struct RowBlocks {
  int8_t* values;
  int64_t values_step;  // bytes
  float* scales;
  float* sums;         // where the form has them
  int32_t* starts[2];  // of each part; the first may be null where the form has sums, because it would be 0
  int64_t step;        // elements of `scales` and `sums`
  int64_t starts_step;
};

// x[r, 32 b + k] ~ scales[r, b] * values[r, 32 b + k]; scale = largest magnitude of the block / 127, values
// rounded to nearest even.
struct QuantizedRows {
  int64_t n_rows = 0;
  int64_t n_blocks = 0;       // per row
  int64_t n_parts = 1;        // of a block
  int8_t* values = nullptr;   // [n_rows, 32 n_blocks], 64-byte aligned rows
  float* scales = nullptr;    // [n_rows, n_blocks]
  int32_t* starts = nullptr;  // [n_rows, n_blocks, n_parts]: -zero * the sum of the part's values, where the
                              // integer sums of a product begin
  float* sums = nullptr;      // [n_rows, n_blocks]: scale * the sum of the block's values; or null

  // Row r.
  RowBlocks row(int64_t r) const {
    const int64_t block = r * n_blocks;
    int32_t* first = starts + block * n_parts;
    return {.values = values + block * kGroupElements,
            .values_step = kGroupElements,
            .scales = scales + block,
            .sums = sums != nullptr ? sums + block : nullptr,
            .starts = {first, first + (n_parts - 1)},
            .step = 1,
            .starts_step = n_parts};
  }
  // The rows from r on.
  QuantizedRows rows_from(int64_t r) const {
    QuantizedRows rows = *this;
    rows.n_rows -= r;
    rows.values += r * n_blocks * kGroupElements;
    rows.scales += r * n_blocks;
    rows.starts += r * n_blocks * n_parts;
    if (sums != nullptr) rows.sums += r * n_blocks;
    return rows;
  }
};

// Takes its memory from ctx.arena: valid until the caller's Scope ends. A row with a NaN or infinity gets
// scales of NaN in that block, so that products with it show the fault.
QuantizedRows quantize_rows(const Context& ctx, const Matrix& x, const RowsForm& form);

// Rounds n_blocks blocks of one row of n elements (zeros beyond them).
void quantize_row_blocks(const float* x, int64_t n, int64_t n_blocks, const RowsForm& form,
                         const RowBlocks& to);

}  // namespace sepllm
