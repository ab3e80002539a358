// A trained model as a Hugging Face folder, which this program and transformers load.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/dtype.h"
#include "train/trainer.h"

namespace sepllm {

// After how many steps the model was exported that lies there, in this type; nullopt: there is none, or one
// in another type. Error (kInvalidArgument) where something else lies there.
std::optional<int64_t> exported_steps(const std::string& folder, DType type);

// Writes `folder` whole or not at all (an earlier model of the run is replaced): config.json (with the policy
// under "sepllm"), model.safetensors in `type` (f32, bf16 or f16), the tokenizer's files, and README.md, the
// card with the facts of the training. Error (kIo, kInvalidArgument).
void export_model(Trainer& trainer, const std::string& folder, DType type);

}  // namespace sepllm
