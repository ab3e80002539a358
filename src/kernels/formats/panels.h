// 8- and 4-bit weights as the kernels read them: panels of 16 outputs, in the order of the integer dot
// product instructions (16 lanes, one an output, of 4 neighbouring inputs each), which is also that of AMX's
// tiles. A panel is one stream of cache lines:
//
//   for each unit (n_in is filled up with zeros to whole units):
//     scales of a block of 8 groups, where the form has them: a line with the f16 scales of the 16 outputs,
//       then their f16 minima; then 3 lines of 12 bytes of packed 6-bit numbers (k_scales.h), byte k of
//       output 0, of output 1, ..; or 4 lines of the signed bytes of 16 halves of groups in this order.
//     for each pair of groups of 32 inputs in it:
//       BytePanel: 16 lines, line j: the 4 bytes of inputs 4j .. 4j + 3 of output 0, of output 1, ..
//       others: 8 lines, line j: the low four bits of inputs 4j .. 4j + 3 of the first group in the low
//       halves
//         of the bytes, of the second group in the high halves, in the same order. Then lines of the bits
//         above these, in the same order: a byte of them belongs to that byte of 8 neighbouring lines (5
//         bits) or of 4 (6 bits), the first line's bits lowest.
//       scales of groups: 1 line with the f16 scales of the 16 outputs for the first group, then for the
//         second; the minima in a line after it.
//
// Values are unsigned (Quanta of kernels/formats/format.h), so a product with signed activations x is scale_w
// * scale_x * (sum(value * x) - zero * sum(x)) + minimum * scale_x * sum(x). Outputs beyond n_out have scale
// 0 and minimum 0.
#pragma once

#include <cstdint>

#include "base/dtype.h"
#include "kernels/formats/format.h"
#include "tensor/view.h"

namespace sepllm {

inline constexpr int64_t kPanelOutputs = 16;
inline constexpr int64_t kPairElements = 2 * kGroupElements;

inline int64_t panel_units(const PanelForm& form, int64_t n_in) {
  return (n_in + form.pairs() * kPairElements - 1) / (form.pairs() * kPairElements);
}
// Pairs of groups, those included that fill the last unit up.
inline int64_t panel_pairs(const PanelForm& form, int64_t n_in) {
  return panel_units(form, n_in) * form.pairs();
}
inline int64_t panel_bytes(DType type, int64_t n_in) {
  const PanelForm& form = format_of(type).panel;
  return panel_units(form, n_in) * form.unit_bytes();
}
inline int64_t n_panels(int64_t n_out) { return (n_out + kPanelOutputs - 1) / kPanelOutputs; }
// Bytes of a whole matrix, which must be aligned to 64 bytes.
inline int64_t panels_bytes(DType type, int64_t n_out, int64_t n_in) {
  return n_panels(n_out) * panel_bytes(type, n_in);
}

// Writes what a group's scales are made of, which `quanta` holds, into a unit that is 0 there.
void write_group_scales(const PanelForm& form, const Quanta& quanta, int64_t g, int64_t lane, char* unit);
// Group g of a unit and output `lane` < 16 of a panel.
Quanta read_group(const PanelForm& form, const char* unit, int64_t g, int64_t lane);

// The scales of all groups of a unit, and their minima (0 where the form has none).
struct UnitTable {
  float scale[kMostGroups][2][kPanelOutputs];
  float minimum[kMostGroups][kPanelOutputs];
};
void read_unit_scales(const PanelForm& form, const char* unit, UnitTable* to);

// Writes panel p of a matrix to `panel` (panel_bytes, all of them). Its stored rows
// (kernels/formats/blocks.h) 16p, 16p + 1, .. lie at rows[0 .. n_rows), 1 <= n_rows <= 16.
void pack_panel(DType type, const void* const* rows, int64_t n_rows, int64_t n_in, void* panel);
// Restores the stored blocks of one output, for files and tests: row_bytes(type, n_in) bytes at `blocks`.
void unpack_blocks(const Weight& w, int64_t output, void* blocks);
// to[i] = w[output, first + i] for i < n. w of a block type.
void panel_row_to_f32(const Weight& w, int64_t output, int64_t first, int64_t n, float* to);

}  // namespace sepllm
