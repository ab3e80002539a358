#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/linear/linear_many_simd.cc"
#include <hwy/foreach_target.h>  // must come first

#include <algorithm>
#include <cstdint>

#include "kernels/formats/panels.h"
#include "kernels/linear/linear_many.h"
#include "kernels/linear/panel_values-inl.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sepllm {
namespace HWY_NAMESPACE {
namespace {

// A group of pair `index` of a unit: 32 inputs.
template <typename Panel, int kGroup>
HWY_INLINE void group_to_f32(const char* pair, const UnitTable& table, int index, float* to, int64_t stride) {
  constexpr PanelForm kForm = Panel::kForm;
  for (int64_t o = 0; o < kPanelOutputs; o += kLanes) {
    for (int j = 0; j < 8; ++j) {
      const VF scale = group_scale<Panel>(pair, table, index, kGroup, j * kForm.parts() / 8, o);
      float* at = to + (kGroup * kGroupElements + 4 * j) * stride + o;
      const auto put = [&](VF value, int64_t k) HWY_ATTR {
        VF weight = hn::Mul(value, scale);
        // Rounded twice, as stored blocks are read (this file is compiled without fused multiplication).
        if constexpr (Panel::kForm.has_minima())
          weight = hn::Add(weight, load(table.minimum[2 * index + kGroup] + o));
        store(weight, at + k * stride);
      };
      with_line_values<Panel, kGroup>(pair, j, o, [&](VF w0, VF w1, VF w2, VF w3) HWY_ATTR {
        put(w0, 0);
        put(w1, 1);
        put(w2, 2);
        put(w3, 3);
      });
    }
  }
}

template <typename Panel>
void panel_inputs_to_f32(const char* panel, int64_t first, int64_t n, float* to, int64_t stride) {
  constexpr PanelForm kForm = Panel::kForm;
  UnitTable table;
  for (int64_t i = 0; i < n; i += kPairElements) {
    const int64_t p = (first + i) / kPairElements;
    const char* unit = panel + p / kForm.pairs() * kForm.unit_bytes();
    const int index = static_cast<int>(p % kForm.pairs());
    if (i == 0 || index == 0) fill_table<Panel>(unit, &table);
    const auto convert = [&](float* at, int64_t apart) HWY_ATTR {
      group_to_f32<Panel, 0>(unit + kForm.pair_at(index), table, index, at, apart);
      group_to_f32<Panel, 1>(unit + kForm.pair_at(index), table, index, at, apart);
    };
    if (i + kPairElements <= n) {
      convert(to + i * stride, stride);
    } else {
      HWY_ALIGN float last[kPairElements * kPanelOutputs];
      convert(last, kPanelOutputs);
      for (int64_t k = 0; i + k < n; ++k)
        std::copy_n(last + k * kPanelOutputs, kPanelOutputs, to + (i + k) * stride);
    }
  }
}

void PanelToF32(DType type, const char* panel, int64_t first, int64_t n, float* to, int64_t stride) {
  with_panel(type, [&](auto form) { panel_inputs_to_f32<decltype(form)>(panel, first, n, to, stride); });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sepllm
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sepllm {
namespace {
HWY_EXPORT(PanelToF32);
}  // namespace

void panel_to_f32(DType type, const char* panel, int64_t first, int64_t n, float* to, int64_t stride) {
  HWY_DYNAMIC_DISPATCH(PanelToF32)(type, panel, first, n, to, stride);
}

}  // namespace sepllm
#endif  // HWY_ONCE
