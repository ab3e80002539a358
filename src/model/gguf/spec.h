// A model in a GGUF file as a ModelSpec: its metadata become the config.json that a Hugging Face folder of
// the same model has, which the family reads as usual; tensors have the names and the order of GGUF.
#pragma once

#include "base/json.h"
#include "checkpoint/weight_store.h"
#include "model/config.h"

namespace sepllm {

// The config.json of the model. Error (kUnsupported, kBadFile, kNotFound) naming file and key for an
// architecture that is not read (listing those that are), and for settings that this program does not do.
// `store` is a GGUF file's.
Json gguf_config(const WeightStore& store);

// The whole specification: of gguf_config(), with the names and the order of rows that the file has, and the
// rope frequencies that it brings with it (rope_freqs).
ModelSpec read_gguf_spec(const WeightStore& store);

}  // namespace sepllm
