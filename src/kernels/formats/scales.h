// What the scales of a group (Quanta of format.h) mean.
#pragma once

#include <cstdint>

#include "kernels/formats/format.h"

namespace sepllm {

// element[k] = scale[k / 16] * (value[k] - zero) + minimum, where the form has minima.
struct GroupScales {
  float scale[2];
  float minimum;
};
// All products are exact.
GroupScales group_scales(const PanelForm& form, const Quanta& quanta);

// The elements of a group, bit for bit those that the gguf package computes: each product and each sum is
// rounded to f32 by itself.
void group_elements(const PanelForm& form, const Quanta& quanta, float* to);

}  // namespace sepllm
