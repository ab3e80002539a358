// The formats of weights that are stored as blocks of a row with their scales, byte for byte those of GGUF,
// so that rows can be exchanged with other programs. A format is one file (q8_0.cc, q4_0.cc) and one line of
// SEPLLM_BLOCK_TYPES (base/dtype.h): its name, and the elements and bytes of a block.
//
// A format is free to choose
//   - the elements of its blocks: any multiple of kGroupElements up to kMostGroups groups;
//   - their bytes: order, packing, where scales are and how many;
//   - the form of the panels (panels.h) in which kernels multiply it.
// The forms that there are hold, for each group of 32 inputs of an output, unsigned values of 8 or 4 bits and
// one f16 scale: element = scale * (value - zero). A format whose groups are something else (a scale and a
// minimum, f16 scales times small integers, a scale for 16 inputs) needs a form of its own: a tag here with
// its overloads in the kernels that name tags (`grep -r NibblePanel src/kernels`).
#pragma once

#include <cstdint>

#include "base/dtype.h"

namespace sepllm {

// A group: neighbouring inputs that share a scale where integers are multiplied, of weights in panels and of
// rounded activations (quantized_rows.h). It is the kernels' unit; a stored block is one or more groups.
inline constexpr int64_t kGroupElements = 32;
inline constexpr int64_t kMostGroups = 8;  // of a stored block

inline int64_t groups_of_block(DType type) { return block_elements(type) / kGroupElements; }
inline int64_t groups_of_row(int64_t n) { return (n + kGroupElements - 1) / kGroupElements; }

// How a panel holds the values of a pair of groups, 4 inputs a word of 32 bits and 16 outputs a line of 64
// bytes: the second group lies after the first or, if values have 4 bits, in the upper halves of its bytes.
enum class PanelKind : uint8_t { kBytes, kNibbles };
inline constexpr int kPanelKinds = 2;
struct PanelForm {
  PanelKind kind;
  int bits;  // bits of a value
  int zero;  // the value that means 0

  constexpr int lines() const { return 2 * bits; }  // the lines that hold the values of a pair
  constexpr int64_t values_bytes() const { return int64_t{64} * lines(); }
  constexpr int64_t pair_bytes() const { return values_bytes() + 64; }  // the values and a line of scales
  // Where group 0 or 1 of a pair is: its first line of 8, and how far up in the bytes its values are.
  constexpr int group_line(int group) const { return bits == 8 ? 8 * group : 0; }
  constexpr int group_shift(int group) const { return bits == 8 ? 0 : bits * group; }
  constexpr int mask() const { return (1 << bits) - 1; }
};
// Kernels are templates over these tags.
struct BytePanel {
  static constexpr PanelForm kForm{PanelKind::kBytes, 8, 128};
};
struct NibblePanel {
  static constexpr PanelForm kForm{PanelKind::kNibbles, 4, 8};
};

// A group as panels hold it: element k is scale * (values[k] - zero of the panel's form).
struct Quanta {
  f16 scale;
  uint8_t values[kGroupElements];
};

struct BlockFormat {
  DType type;
  PanelForm panel;
  int low, high;  // the integers that quantize() rounds to (a stored block may hold others)
  // x [block_elements(type)], rounded to a block. A scale that overflows f16 or an element that is not a
  // number is stored as a scale of NaN or infinity.
  void (*quantize)(const float* x, void* block);
  // Converts between a stored block, which has no alignment, and its groups (groups_of_block(type)), without
  // loss.
  void (*decode)(const void* block, Quanta* groups);
  void (*encode)(const Quanta* groups, void* block);
  // Whether all scales of the block are finite numbers.
  bool (*is_finite)(const void* block);
};

// Of a block type (checked).
const BlockFormat& format_of(DType type);

// Calls fn(tag) with the tag of the panels of `type`, and returns its result.
template <typename Fn>
auto with_panel(DType type, const Fn& fn) {
  switch (format_of(type).panel.kind) {
    case PanelKind::kNibbles:
      return fn(NibblePanel());
    case PanelKind::kBytes:
      break;
  }
  return fn(BytePanel());
}

// Calls fn(g, quanta) for each group g of 32 elements of a stored row of n, in order; the last group may be
// partly filled (with zeros).
template <typename Fn>
void for_groups(DType type, const void* row, int64_t n, const Fn& fn) {
  const BlockFormat& format = format_of(type);
  const auto* block = static_cast<const char*>(row);
  const int64_t n_groups = groups_of_row(n), in_block = groups_of_block(type);
  Quanta groups[kMostGroups];
  for (int64_t g = 0; g < n_groups; ++g) {
    if (g % in_block == 0) {
      format.decode(block, groups);
      block += block_bytes(type);
    }
    fn(g, groups[g % in_block]);
  }
}

}  // namespace sepllm
