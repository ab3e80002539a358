// Compiled without fused multiplication (CMakeLists.txt).
#include "kernels/formats/scales.h"

#include <cstdint>

namespace sepllm {

GroupScales group_scales(const PanelForm& form, const Quanta& quanta) {
  const float scale = to_float(quanta.scale);
  switch (form.scales) {
    case PanelScales::kGroupsMinima:
      return {{scale, scale}, to_float(quanta.minimum)};
    case PanelScales::kBlocksMinima: {
      const float of_group = scale * static_cast<float>(quanta.sub_scales[0]);
      return {{of_group, of_group}, -(to_float(quanta.minimum) * static_cast<float>(quanta.sub_minimum))};
    }
    case PanelScales::kBlocksHalves:
      return {{scale * static_cast<float>(static_cast<int8_t>(quanta.sub_scales[0])),
               scale * static_cast<float>(static_cast<int8_t>(quanta.sub_scales[1]))},
              0.0F};
    case PanelScales::kGroups:
      break;
  }
  return {{scale, scale}, 0.0F};
}

void group_elements(const PanelForm& form, const Quanta& quanta, float* to) {
  const GroupScales scales = group_scales(form, quanta);
  for (int64_t k = 0; k < kGroupElements; ++k)
    to[k] = scales.scale[k / 16] * static_cast<float>(quanta.values[k] - form.zero);
  if (!form.has_minima()) return;
  for (int64_t k = 0; k < kGroupElements; ++k) to[k] += scales.minimum;
}

}  // namespace sepllm
