// Tells models apart, for state files. It is cheap, because it reads only samples of the weights.
#pragma once

#include <string>

#include "base/token_set.h"
#include "model/decoder.h"

namespace sepllm {

// 16 hexadecimal digits that depend on the config, and on the type, the shape and evenly spaced samples of
// every weight, as the kernels read them (so other --weights make another model).
std::string model_fingerprint(const Decoder& decoder);
// The same number of digits for the ids of a set.
std::string set_fingerprint(const TokenSet& set);

}  // namespace sepllm
