#include "kernels/formats/panels.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "base/check.h"

namespace sepllm {
namespace {

const char* panel_of(const Weight& w, int64_t output) {
  return static_cast<const char*>(w.data) + output / kPanelOutputs * panel_bytes(w.type, w.n_in);
}

// A group of one output in a panel: where its pair is, and in the pair its scale and the bytes with its
// elements (element k: element_byte(k) further), which stand some bits up in them.
struct GroupPlace {
  int64_t pair, values, scale;
  int shift;
};
GroupPlace place_of(const PanelForm& form, int64_t group, int64_t output) {
  const int half = static_cast<int>(group % 2);
  const int64_t lane = output % kPanelOutputs;
  return {.pair = group / 2 * form.pair_bytes(),
          .values = form.group_line(half) * int64_t{64} + lane * 4,
          .scale = form.values_bytes() + half * 32 + lane * 2,
          .shift = form.group_shift(half)};
}
int64_t element_byte(int64_t k) { return k / 4 * 64 + k % 4; }

f16 read_scale(const char* panel, const GroupPlace& place) {
  f16 scale;
  std::memcpy(&scale, panel + place.pair + place.scale, sizeof(scale));
  return scale;
}

// Into a panel that is 0 there.
void pack_group(const Quanta& quanta, const GroupPlace& place, char* panel) {
  std::memcpy(panel + place.pair + place.scale, &quanta.scale, sizeof(f16));
  char* values = panel + place.pair + place.values;
  for (int64_t k = 0; k < kGroupElements; ++k) {
    char& byte = values[element_byte(k)];
    byte = static_cast<char>(static_cast<uint8_t>(byte) | quanta.values[k] << place.shift);
  }
}

Quanta unpack_group(const PanelForm& form, const GroupPlace& place, const char* panel) {
  Quanta quanta{read_scale(panel, place), {}};
  const char* values = panel + place.pair + place.values;
  for (int64_t k = 0; k < kGroupElements; ++k) {
    const auto byte = static_cast<uint8_t>(values[element_byte(k)]);
    quanta.values[k] = static_cast<uint8_t>(byte >> place.shift & form.mask());
  }
  return quanta;
}

}  // namespace

void pack_panel(DType type, const void* const* rows, int64_t n_rows, int64_t n_in, void* panel) {
  SEPLLM_CHECK(n_rows >= 1 && n_rows <= kPanelOutputs);
  const PanelForm& form = format_of(type).panel;
  auto* out = static_cast<char*>(panel);
  // Scales of 0 where there is no output or no input.
  std::memset(out, 0, static_cast<size_t>(panel_bytes(type, n_in)));
  for (int64_t lane = 0; lane < n_rows; ++lane) {
    for_groups(type, rows[lane], n_in, [&](int64_t group, const Quanta& quanta) {
      pack_group(quanta, place_of(form, group, lane), out);
    });
  }
}

void unpack_blocks(const Weight& w, int64_t output, void* blocks) {
  SEPLLM_CHECK(output >= 0 && output < w.n_out);
  const BlockFormat& format = format_of(w.type);
  const int64_t n_groups = groups_of_row(w.n_in), in_block = groups_of_block(w.type);
  auto* out = static_cast<char*>(blocks);
  for (int64_t first = 0; first < n_groups; first += in_block, out += block_bytes(w.type)) {
    Quanta groups[kMostGroups];
    for (int64_t i = 0; i < in_block; ++i) {
      if (first + i < n_groups) {
        groups[i] =
            unpack_group(format.panel, place_of(format.panel, first + i, output), panel_of(w, output));
      } else {  // beyond the row: zeros, which the panel does not hold
        groups[i] = {groups[0].scale, {}};
        std::fill_n(groups[i].values, kGroupElements, static_cast<uint8_t>(format.panel.zero));
      }
    }
    format.encode(groups, out);
  }
}

void panel_row_to_f32(const Weight& w, int64_t output, int64_t first, int64_t n, float* to) {
  SEPLLM_CHECK(output >= 0 && output < w.n_out && first >= 0 && first + n <= w.n_in);
  const PanelForm& form = format_of(w.type).panel;
  const char* panel = panel_of(w, output);
  // A group at a time, whose bytes have a shift in common.
  for (int64_t i = 0; i < n;) {
    const int64_t group = (first + i) / kGroupElements, k = (first + i) % kGroupElements;
    const int64_t count = std::min(kGroupElements - k, n - i);
    const GroupPlace place = place_of(form, group, output);
    const float scale = to_float(read_scale(panel, place));
    const char* bytes = panel + place.pair + place.values;
    for (int64_t e = k; e < k + count; ++e, ++i) {
      const int value =
          (static_cast<uint8_t>(bytes[element_byte(e)]) >> place.shift & form.mask()) - form.zero;
      to[i] = scale * static_cast<float>(value);
    }
  }
}

}  // namespace sepllm
