// Variants of row-wise functions, which a model's config names and the kernels compute.
#pragma once

namespace sepllm {

enum class Activation { kGelu, kGeluTanh, kRelu, kSilu };  // kGelu: by erf
enum class RopePairing { kHalf, kInterleaved };            // (x_i, x_{i+d/2}) or (x_2i, x_2i+1)

}  // namespace sepllm
