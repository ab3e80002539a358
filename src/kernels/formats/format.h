// The formats of weights that are stored as blocks of a row with their scales, byte for byte those of GGUF,
// so that rows can be exchanged with other programs. A format is one file (q8_0.cc, q4_k.cc) and one line of
// SEPLLM_BLOCK_TYPES or SEPLLM_KEPT_BLOCK_TYPES (base/dtype.h): its name, and the elements and bytes of a
// block.
//
// A format is free to choose
//   - the elements of its blocks: any multiple of kGroupElements up to kMostGroups groups;
//   - their bytes: order, packing, where scales are and how many;
//   - the form of the panels (panels.h) in which kernels multiply it.
// The forms that there are hold, for each group of 32 inputs of an output, unsigned values of 4, 5, 6 or 8
// bits, and scales of one of the kinds of PanelScales: element = scale * (value - zero) + minimum. A format
// whose groups are something else needs a form of its own: a tag here, its kind of scales in scales.h, and
// an overload wherever kernels ask for the kind (`grep -r PanelScales src/kernels`).
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
// bytes. Values of 8 bits: the second group lies after the first. Fewer bits: the low four of the second
// group are the upper halves of the first one's bytes; what bits there are above these follows in lines of
// its own.
enum class PanelKind : uint8_t {
  kBytes,
  kNibbles,
  kNibblesMinima,
  kFiveBits,
  kNibbleBlocks,
  kFiveBitBlocks,
  kSixBitBlocks
};
inline constexpr int kPanelKinds = 7;

// What the scale and the minimum of a group are made of. Products of f16 numbers and these integers are exact
// in f32.
enum class PanelScales : uint8_t {
  kGroups,        // an f16 scale
  kGroupsMinima,  // an f16 scale, and an f16 minimum
  // of each block of 8 groups an f16 scale and an f16 minimum; they are multiplied by numbers of 6 bits of
  // each group, and the minimum is subtracted
  kBlocksMinima,
  kBlocksHalves,  // of each block of 8 groups an f16 scale, multiplied by a signed byte of each 16 inputs
};

// A panel is a sequence of units: pairs of groups or, where a block has 8 groups, blocks, which begin with
// lines of scales.
struct PanelForm {
  PanelKind kind;
  int bits;  // of a value
  int zero;  // the value that means 0 (without the minimum)
  PanelScales scales = PanelScales::kGroups;

  constexpr bool of_blocks() const {
    return scales == PanelScales::kBlocksMinima || scales == PanelScales::kBlocksHalves;
  }
  // Whole bytes or halves of bytes, and scales of groups only.
  constexpr bool is_plain() const { return scales == PanelScales::kGroups && (bits == 8 || bits == 4); }
  constexpr bool has_minima() const {
    return scales == PanelScales::kGroupsMinima || scales == PanelScales::kBlocksMinima;
  }
  // Scales of a group: of all its inputs, or of each half.
  constexpr int parts() const { return scales == PanelScales::kBlocksHalves ? 2 : 1; }
  constexpr int pairs() const { return of_blocks() ? 4 : 1; }  // of a unit
  constexpr int groups() const { return 2 * pairs(); }
  constexpr int lines() const { return 2 * bits; }  // the lines that hold the values of a pair
  constexpr int head_lines() const {                // at the beginning of a unit
    return !of_blocks() ? 0 : scales == PanelScales::kBlocksMinima ? 4 : 5;
  }
  constexpr int tail_lines() const {  // after the values of a pair
    return of_blocks() ? 0 : scales == PanelScales::kGroupsMinima ? 2 : 1;
  }
  constexpr int64_t values_bytes() const { return int64_t{64} * lines(); }
  constexpr int64_t pair_bytes() const { return values_bytes() + int64_t{64} * tail_lines(); }
  constexpr int64_t unit_bytes() const { return int64_t{64} * head_lines() + pairs() * pair_bytes(); }
  constexpr int64_t pair_at(int64_t pair) const { return int64_t{64} * head_lines() + pair * pair_bytes(); }
  // Where the low bits of group 0 or 1 of a pair are: the first of 8 lines, and how far up in the bytes.
  constexpr int group_line(int group) const { return bits == 8 ? 8 * group : 0; }
  constexpr int group_shift(int group) const { return bits == 8 ? 0 : 4 * group; }
  constexpr int low_bits() const { return bits == 8 ? 8 : 4; }
  // The bits above these: of line j < 8 of a group in which line of the pair, and how far up in its bytes.
  constexpr int high_bits() const { return bits - low_bits(); }
  constexpr int high_line(int group, int j) const { return 8 + (8 * group + j) * high_bits() / 8; }
  constexpr int high_shift(int j) const { return j * high_bits() % 8; }
  constexpr int mask() const { return (1 << bits) - 1; }
  constexpr int low_mask() const { return (1 << low_bits()) - 1; }
};
// Kernels are templates over these tags.
struct BytePanel {
  static constexpr PanelForm kForm{PanelKind::kBytes, 8, 128};
};
struct NibblePanel {
  static constexpr PanelForm kForm{PanelKind::kNibbles, 4, 8};
};
struct NibbleMinimaPanel {
  static constexpr PanelForm kForm{PanelKind::kNibblesMinima, 4, 0, PanelScales::kGroupsMinima};
};
struct FiveBitPanel {
  static constexpr PanelForm kForm{PanelKind::kFiveBits, 5, 16};
};
struct NibbleBlockPanel {
  static constexpr PanelForm kForm{PanelKind::kNibbleBlocks, 4, 0, PanelScales::kBlocksMinima};
};
struct FiveBitBlockPanel {
  static constexpr PanelForm kForm{PanelKind::kFiveBitBlocks, 5, 0, PanelScales::kBlocksMinima};
};
struct SixBitBlockPanel {
  static constexpr PanelForm kForm{PanelKind::kSixBitBlocks, 6, 32, PanelScales::kBlocksHalves};
};

// A group as stored blocks and panels hold it (scales.h has what it means). The scale and minimum of a block
// are those of each of its groups. Which members after `values` there are, the form's kind of scales says.
struct Quanta {
  f16 scale{};
  uint8_t values[kGroupElements] = {};
  f16 minimum{};
  uint8_t sub_scales[2] = {};  // 6 bits; or signed bytes, of each half
  uint8_t sub_minimum = 0;     // 6 bits
};

struct BlockFormat {
  DType type;
  PanelForm panel;
  int low, high;  // the integers that quantize() rounds to (a stored block may hold others)
  // x [block_elements(type)], rounded to a block. A scale that overflows f16 or an element that is not a
  // number is stored as a scale of NaN or infinity. Null for kept types.
  void (*quantize)(const float* x, void* block);
  // Converts between a stored block, which has no alignment, and its groups (groups_of_block(type)), without
  // loss.
  void (*decode)(const void* block, Quanta* groups);
  void (*encode)(const Quanta* groups, void* block);
  // Whether all scales of the block are finite numbers.
  bool (*is_finite)(const void* block);
};

// Of a type that has panels (checked).
const BlockFormat& format_of(DType type);

// Calls fn(tag) with the tag of the panels of `type`, and returns its result.
template <typename Fn>
auto with_panel(DType type, const Fn& fn) {
  switch (format_of(type).panel.kind) {
    case PanelKind::kNibbles:
      return fn(NibblePanel());
    case PanelKind::kNibblesMinima:
      return fn(NibbleMinimaPanel());
    case PanelKind::kFiveBits:
      return fn(FiveBitPanel());
    case PanelKind::kNibbleBlocks:
      return fn(NibbleBlockPanel());
    case PanelKind::kFiveBitBlocks:
      return fn(FiveBitBlockPanel());
    case PanelKind::kSixBitBlocks:
      return fn(SixBitBlockPanel());
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
