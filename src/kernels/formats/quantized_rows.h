// Activations as the integer kernels read them: rows rounded to 8 bits, with a scale for each group
// of 32 (kernels/formats/format.h), here also called a block.
#pragma once

#include <cstdint>

#include "kernels/formats/format.h"
#include "tensor/context.h"
#include "tensor/matrix.h"

namespace sepllm {

// x[r, 32 b + k] ~ scales[r, b] * values[r, 32 b + k]; scale = largest magnitude of the block / 127, values
// rounded to nearest even. Filled up with zeros to whole pairs of blocks (kernels/formats/panels.h).
struct QuantizedRows {
  int64_t n_rows = 0;
  int64_t n_blocks = 0;       // per row; even
  int8_t* values = nullptr;   // [n_rows, 32 n_blocks], 64-byte aligned rows
  float* scales = nullptr;    // [n_rows, n_blocks]
  int32_t* starts = nullptr;  // [n_rows, n_blocks]: -zero * the sum of the block's values, where the integer
                              // sums of a product begin (zero = panel_zero of the weights' type)
};

// Takes its memory from ctx.arena: valid until the caller's Scope ends. A row with a NaN or infinity gets
// scales of NaN in that block, so that products with it show the fault.
QuantizedRows quantize_rows(const Context& ctx, const Matrix& x, int zero);

// The same for one row of n elements.
void quantize_row_blocks(const float* x, int64_t n, int64_t n_blocks, int zero, int8_t* values, float* scales,
                         int32_t* starts);

}  // namespace sepllm
