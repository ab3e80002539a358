#include "kernels/formats/panels.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "base/check.h"
#include "kernels/formats/k_scales.h"
#include "kernels/formats/scales.h"

namespace sepllm {
namespace {

// Of one output: where line `line` of a pair has its 4 bytes.
int64_t byte_at(int line, int64_t k, int64_t lane) { return int64_t{64} * line + 4 * lane + k % 4; }

// Fields of a unit for group g and output `lane`.
struct ScalePlaces {
  int64_t scale, minimum;  // f16
  int64_t packed;  // the first of 12 bytes, 16 apart; or the byte of the first half, 16 before the other
};
ScalePlaces scale_places(const PanelForm& form, int64_t g, int64_t lane) {
  if (!form.of_blocks()) {
    const int64_t at = form.pair_at(g / 2) + form.values_bytes() + g % 2 * 32 + lane * 2;
    return {at, at + 64, 0};
  }
  const bool halves = form.scales == PanelScales::kBlocksHalves;
  return {lane * 2, 32 + lane * 2, 64 + lane + (halves ? g * 32 : 0)};
}

template <typename T>
T read_at(const char* from) {
  T value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

// Into a unit that is 0 there.
void pack_group(const PanelForm& form, const Quanta& quanta, int64_t g, int64_t lane, char* unit) {
  write_group_scales(form, quanta, g, lane, unit);
  const int half = static_cast<int>(g % 2);
  auto* pair = reinterpret_cast<uint8_t*>(unit) + form.pair_at(g / 2);
  for (int k = 0; k < kGroupElements; ++k) {
    const int line = k / 4, value = quanta.values[k];
    pair[byte_at(form.group_line(half) + line, k, lane)] |=
        static_cast<uint8_t>((value & form.low_mask()) << form.group_shift(half));
    if (form.high_bits() == 0) continue;
    pair[byte_at(form.high_line(half, line), k, lane)] |=
        static_cast<uint8_t>((value >> form.low_bits()) << form.high_shift(line));
  }
}

const char* unit_of(const Weight& w, int64_t output, int64_t group) {
  const PanelForm& form = format_of(w.type).panel;
  return static_cast<const char*>(w.data) + output / kPanelOutputs * panel_bytes(w.type, w.n_in) +
         group / form.groups() * form.unit_bytes();
}

}  // namespace

void write_group_scales(const PanelForm& form, const Quanta& quanta, int64_t g, int64_t lane, char* unit) {
  const ScalePlaces at = scale_places(form, g, lane);
  auto* packed = reinterpret_cast<uint8_t*>(unit) + at.packed;
  std::memcpy(unit + at.scale, &quanta.scale, sizeof(f16));
  if (form.has_minima()) std::memcpy(unit + at.minimum, &quanta.minimum, sizeof(f16));
  if (form.scales == PanelScales::kBlocksMinima)
    add_k_scale({quanta.sub_scales[0], quanta.sub_minimum}, g, packed, kPanelOutputs);
  if (form.scales == PanelScales::kBlocksHalves) {
    packed[0] = quanta.sub_scales[0];
    packed[kPanelOutputs] = quanta.sub_scales[1];
  }
}

Quanta read_group(const PanelForm& form, const char* unit, int64_t g, int64_t lane) {
  Quanta quanta;
  const ScalePlaces at = scale_places(form, g, lane);
  const auto* packed = reinterpret_cast<const uint8_t*>(unit) + at.packed;
  quanta.scale = read_at<f16>(unit + at.scale);
  if (form.has_minima()) quanta.minimum = read_at<f16>(unit + at.minimum);
  if (form.scales == PanelScales::kBlocksMinima) {
    const KScale k = k_scale(packed, g, kPanelOutputs);
    quanta.sub_scales[0] = static_cast<uint8_t>(k.scale);
    quanta.sub_minimum = static_cast<uint8_t>(k.minimum);
  }
  if (form.scales == PanelScales::kBlocksHalves) {
    quanta.sub_scales[0] = packed[0];
    quanta.sub_scales[1] = packed[kPanelOutputs];
  }
  const int half = static_cast<int>(g % 2);
  const auto* pair = reinterpret_cast<const uint8_t*>(unit) + form.pair_at(g / 2);
  const int high_mask = (1 << form.high_bits()) - 1;
  for (int k = 0; k < kGroupElements; ++k) {
    const int line = k / 4;
    int value =
        pair[byte_at(form.group_line(half) + line, k, lane)] >> form.group_shift(half) & form.low_mask();
    if (high_mask != 0) {
      const int high = pair[byte_at(form.high_line(half, line), k, lane)] >> form.high_shift(line);
      value |= (high & high_mask) << form.low_bits();
    }
    quanta.values[k] = static_cast<uint8_t>(value);
  }
  return quanta;
}

void read_unit_scales(const PanelForm& form, const char* unit, UnitTable* to) {
  const bool halves = form.scales == PanelScales::kBlocksHalves;
  float scale[kPanelOutputs], minimum[kPanelOutputs] = {};
  for (int64_t g = 0; g < form.groups(); ++g) {
    if (g == 0 || !form.of_blocks()) {
      for (int64_t lane = 0; lane < kPanelOutputs; ++lane) {
        const ScalePlaces at = scale_places(form, g, lane);
        scale[lane] = to_float(read_at<f16>(unit + at.scale));
        if (form.has_minima()) minimum[lane] = to_float(read_at<f16>(unit + at.minimum));
      }
    }
    for (int64_t lane = 0; lane < kPanelOutputs; ++lane) {
      const auto* packed = reinterpret_cast<const uint8_t*>(unit) + scale_places(form, g, lane).packed;
      float of_group[2] = {scale[lane], scale[lane]};
      float least = minimum[lane];
      if (form.scales == PanelScales::kBlocksMinima) {
        const KScale k = k_scale(packed, g, kPanelOutputs);
        of_group[0] = of_group[1] = scale[lane] * static_cast<float>(k.scale);
        least = -(minimum[lane] * static_cast<float>(k.minimum));
      } else if (halves) {
        for (int64_t part = 0; part < 2; ++part)
          of_group[part] *= static_cast<float>(static_cast<int8_t>(packed[part * kPanelOutputs]));
      }
      to->scale[g][0][lane] = of_group[0];
      to->scale[g][1][lane] = of_group[1];
      to->minimum[g][lane] = least;
    }
  }
}

void pack_panel(DType type, const void* const* rows, int64_t n_rows, int64_t n_in, void* panel) {
  SEPLLM_CHECK(n_rows >= 1 && n_rows <= kPanelOutputs);
  const PanelForm& form = format_of(type).panel;
  auto* out = static_cast<char*>(panel);
  // Scales of 0 where there is no output or no input.
  std::memset(out, 0, static_cast<size_t>(panel_bytes(type, n_in)));
  // The whole of the last block, as far as the last unit holds it.
  const int64_t n_groups = 2 * panel_pairs(form, n_in);
  const int64_t n = blocks_of_row(type, n_in) * block_elements(type);
  for (int64_t lane = 0; lane < n_rows; ++lane) {
    for_groups(type, rows[lane], n, [&](int64_t group, const Quanta& quanta) {
      if (group >= n_groups) return;
      pack_group(form, quanta, group % form.groups(), lane, out + group / form.groups() * form.unit_bytes());
    });
  }
}

void unpack_blocks(const Weight& w, int64_t output, void* blocks) {
  SEPLLM_CHECK(output >= 0 && output < w.n_out);
  const BlockFormat& format = format_of(w.type);
  const PanelForm& form = format.panel;
  const int64_t n_groups = 2 * panel_pairs(form, w.n_in), in_block = groups_of_block(w.type);
  auto* out = static_cast<char*>(blocks);
  for (int64_t first = 0; first < groups_of_row(w.n_in); first += in_block, out += block_bytes(w.type)) {
    Quanta groups[kMostGroups];
    for (int64_t i = 0; i < in_block; ++i) {
      const int64_t group = first + i;
      if (group < n_groups) {
        groups[i] =
            read_group(form, unit_of(w, output, group), group % form.groups(), output % kPanelOutputs);
      } else {  // beyond the row: zeros, which the panel does not hold
        groups[i] = groups[0];
        std::fill_n(groups[i].values, kGroupElements, static_cast<uint8_t>(form.zero));
      }
    }
    format.encode(groups, out);
  }
}

void panel_row_to_f32(const Weight& w, int64_t output, int64_t first, int64_t n, float* to) {
  SEPLLM_CHECK(output >= 0 && output < w.n_out && first >= 0 && first + n <= w.n_in);
  const PanelForm& form = format_of(w.type).panel;
  for (int64_t i = 0; i < n;) {
    const int64_t group = (first + i) / kGroupElements, k = (first + i) % kGroupElements;
    const int64_t count = std::min(kGroupElements - k, n - i);
    float elements[kGroupElements];
    group_elements(form,
                   read_group(form, unit_of(w, output, group), group % form.groups(), output % kPanelOutputs),
                   elements);
    std::copy_n(elements + k, count, to + i);
    i += count;
  }
}

}  // namespace sepllm
