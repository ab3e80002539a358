// Rotary position embedding.
#pragma once

#include <cstdint>
#include <span>

#include "base/dtype.h"
#include "tensor/context.h"
#include "tensor/matrix.h"

namespace sepllm {

// cos and sin of position * inv_freq: [n, inv_freq.size()] each. Angles are computed and reduced in double:
// float fails at millions of tokens.
void rope_tables(const Context& ctx, std::span<const double> inv_freq, std::span<const int64_t> positions,
                 float* cos, float* sin);

// The heads of a row that are rotated: head g begins at column offset + (g / group) * group_stride + (g %
// group) * head_dim.
struct RopeHeads {
  int64_t n_heads = 0;
  int64_t head_dim = 0;
  int64_t group = 1;
  int64_t group_stride = 0;
  int64_t offset = 0;
  bool interleaved = false;  // pairs (2i, 2i+1) instead of (i, i + n_freq)
};

// Rotates the first 2 * n_freq dims of each head of each row of x by that row's angles; y may be x (in
// place). cos, sin: [n, n_freq]. With y another matrix, only the heads' columns are written (all head_dim of
// them).
void rope_rotate(const Context& ctx, const Matrix& x, const Matrix& y, const RopeHeads& heads, int64_t n_freq,
                 const float* cos, const float* sin);

// One key row in a cache, as stored: rotated in place by one angle set (cos, sin: [n_freq]). For the moves of
// a compression; called from many threads.
void rope_rotate_stored(DType type, void* row, int64_t n_freq, bool interleaved, const float* cos,
                        const float* sin);

// The same for a row of `head_dim` int8 and its scale, which is read, rotated and quantised again, once more
// rounded. `scratch`: head_dim floats of the caller's.
void rope_rotate_quantized(int8_t* row, float* scale, int64_t head_dim, int64_t n_freq, bool interleaved,
                           const float* cos, const float* sin, float* scratch);

void rope_rotate_reference(const Matrix& x, const RopeHeads& heads, std::span<const double> inv_freq,
                           std::span<const int64_t> positions);

}  // namespace sepllm
