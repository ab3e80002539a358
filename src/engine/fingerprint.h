// Tells models apart, for state files: cheap, because only samples of the weights are read.
#pragma once

#include <string>

#include "base/token_set.h"
#include "model/decoder.h"

namespace sepllm {

// 16 hexadecimal digits of the config, and of the type, the shape and evenly spaced samples of every weight,
// as the kernels read them (so other --weights are another model).
std::string model_fingerprint(const Decoder& decoder);
// As many of a set's ids.
std::string set_fingerprint(const TokenSet& set);

}  // namespace sepllm
