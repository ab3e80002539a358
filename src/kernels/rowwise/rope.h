// Rotary position embedding.
#pragma once

#include <cstdint>
#include <span>

#include "base/dtype.h"
#include "kernels/rowwise/kinds.h"
#include "tensor/context.h"
#include "tensor/heads.h"

namespace sepllm {

// cos and sin of position * inv_freq, times `factor`: [n, inv_freq.size()] each. Angles are computed and
// reduced in double, because float is too coarse at millions of tokens.
void rope_tables(const Context& ctx, std::span<const double> inv_freq, std::span<const int64_t> positions,
                 float* cos, float* sin, double factor = 1.0);

// cos and sin of the angles of some rows: [rows, n_freq] each.
struct RopeTables {
  int64_t n_freq = 0;
  const float* cos = nullptr;
  const float* sin = nullptr;
  RopeTables from(int64_t row) const { return {n_freq, cos + row * n_freq, sin + row * n_freq}; }
};

// Rotates the first 2 * n_freq dims of each head of rows [0, n_rows) of x (batch 0) by that row's angles, and
// copies the others. y has as many heads, or is x itself (in place); only its heads are written.
void rope_rotate(const Context& ctx, const Heads& x, const Heads& y, int64_t n_rows, RopePairing pairing,
                 const RopeTables& tables);

// Rotates one stored key row of a cache in place, by the first row of the tables. Used for the moves of a
// compression; called from many threads.
void rope_rotate_stored(DType type, void* row, RopePairing pairing, const RopeTables& tables);

// The same for a row of `head_dim` int8 and its scale: it is read, rotated and quantised again, so it is
// rounded once more. `scratch`: head_dim floats of the caller.
void rope_rotate_quantized(int8_t* row, float* scale, int64_t head_dim, RopePairing pairing,
                           const RopeTables& tables, float* scratch);

// The same in place, computed directly from the definition.
void rope_rotate_reference(const Heads& x, RopePairing pairing, std::span<const double> inv_freq,
                           std::span<const int64_t> positions);

}  // namespace sepllm
