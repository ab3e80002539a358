// One function per family: config.json -> ModelSpec. Adding a family is a file here and a line in the table
// of config.cc.
#pragma once

#include "base/json.h"
#include "model/config.h"

namespace sepllm {

ModelSpec parse_llama(const JsonObject& config);
ModelSpec parse_gpt_neox(const JsonObject& config);
ModelSpec parse_gpt2(const JsonObject& config);
ModelSpec parse_falcon(const JsonObject& config);

}  // namespace sepllm
