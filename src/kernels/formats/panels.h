// 8- and 4-bit weights as the kernels read them: panels of 16 outputs, in the order of the integer dot
// product instructions (16 lanes, one an output, of 4 neighbouring inputs each), which is also that of AMX's
// tiles. A panel is one stream of cache lines:
//
//   for each pair of groups of 32 inputs (n_in is filled up with zeros to whole pairs):
//     BytePanel: 16 lines, line j: the 4 bytes of inputs 4j .. 4j + 3 of output 0, of output 1, ..
//     NibblePanel: 8 lines, line j: inputs 4j .. 4j + 3 of the first group in the low halves of the bytes, of
//       the second group in the high halves, in the same order.
//     1 line: the f16 scales of the 16 outputs for the first group, then for the second.
//
// Values are unsigned (Quanta of kernels/formats/format.h), so a product with signed activations x is scale_w
// * scale_x * (sum(value * x) - zero * sum(x)). Outputs beyond n_out have scale 0.
#pragma once

#include <cstdint>

#include "base/dtype.h"
#include "kernels/formats/format.h"
#include "tensor/view.h"

namespace sepllm {

inline constexpr int64_t kPanelOutputs = 16;
inline constexpr int64_t kPairElements = 2 * kGroupElements;

inline int64_t panel_pairs(int64_t n_in) { return (n_in + kPairElements - 1) / kPairElements; }
inline int64_t pair_bytes(DType type) { return format_of(type).panel.pair_bytes(); }
inline int64_t panel_bytes(DType type, int64_t n_in) { return panel_pairs(n_in) * pair_bytes(type); }
inline int64_t n_panels(int64_t n_out) { return (n_out + kPanelOutputs - 1) / kPanelOutputs; }
// Bytes of a whole matrix, which must be aligned to 64 bytes.
inline int64_t panels_bytes(DType type, int64_t n_out, int64_t n_in) {
  return n_panels(n_out) * panel_bytes(type, n_in);
}
inline int panel_zero(DType type) { return format_of(type).panel.zero; }

// Writes panel p of a matrix to `panel` (panel_bytes, all of them). Its stored rows
// (kernels/formats/blocks.h) 16p, 16p + 1, .. lie at rows[0 .. n_rows), 1 <= n_rows <= 16.
void pack_panel(DType type, const void* const* rows, int64_t n_rows, int64_t n_in, void* panel);
// Restores the stored blocks of one output, for files and tests: row_bytes(type, n_in) bytes at `blocks`.
void unpack_blocks(const Weight& w, int64_t output, void* blocks);
// to[i] = w[output, first + i] for i < n. w of a block type.
void panel_row_to_f32(const Weight& w, int64_t output, int64_t first, int64_t n, float* to);

}  // namespace sepllm
