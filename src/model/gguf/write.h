// What a GGUF file of a model consists of in addition to its weights.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "checkpoint/gguf_writer.h"
#include "model/config.h"

namespace sepllm {

// A tensor that the model's own checkpoint does not have.
struct GgufExtraTensor {
  std::string name;
  std::vector<float> values;
};

struct GgufModel {
  GgufFields fields;                   // all but those of the tokenizer
  ModelSpec spec;                      // names and orders of rows in the file
  std::vector<GgufExtraTensor> extra;  // rope_freqs
};

// For a model of this config.json, whose family reads it as `spec`; `name` becomes general.name. Error
// (kUnsupported) if no architecture of GGUF describes the model: reading the file would give another one.
GgufModel gguf_model(const ModelSpec& spec, const Json& config, const std::string& name);

}  // namespace sepllm
