// A trained model as a Hugging Face folder, which this program and transformers load.
#pragma once

#include <string>

#include "base/dtype.h"
#include "train/trainer.h"

namespace sepllm {

// Writes `folder` whole or not at all (it may be there before if it is empty): config.json (with the policy
// under "sepllm"), model.safetensors in `type` (f32, bf16 or f16), the tokenizer's files, and README.md, the
// card with the facts of the training. Error (kIo, kInvalidArgument).
void export_model(Trainer& trainer, const std::string& folder, DType type);

}  // namespace sepllm
