// What differs between the layers of a model, in a few lines.
#pragma once

#include <string>
#include <vector>

#include "model/config.h"

namespace sepllm {

// One line for each set of equal layers, such as "0-4, 6-10: own window of 512 tokens, rope with theta
// 10000", with everything that is not the same in all layers; before them a line "all: ..." with what is the
// same in all layers but not usual (LayerSpec). Empty for a model whose layers are equal and usual. At most
// kMostLayerLines lines; the last one then says how many sets are left out.
inline constexpr int kMostLayerLines = 12;
std::vector<std::string> layer_lines(const ModelConfig& config);

}  // namespace sepllm
