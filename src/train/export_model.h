// Exports a trained model as a Hugging Face folder, which this program and transformers load.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/dtype.h"
#include "train/parameters.h"
#include "train/train_state.h"

namespace sepllm {

struct ExportOptions {
  DType type = DType::kF32;  // type of the weights: f32, bf16 or f16
  std::string tokenizer;     // folder or file; empty: the one in the run's settings
  bool replace = false;      // an existing folder is replaced; otherwise it must be empty
};

// Writes `folder` completely or not at all: config.json (with the policy under "sepllm"), model.safetensors,
// the tokenizer's files, training.json (the facts of the training), and README.md, a model card with these
// facts. The same state gives the same bytes. Error (kIo, kInvalidArgument).
void export_model(const TrainState& state, Parameters& parameters, const std::string& folder,
                  const ExportOptions& options);

// Whether `folder` is already what export_model would write.
bool is_exported(const TrainState& state, const std::string& folder, DType type);

// Error (kInvalidArgument) if `folder` exists and is not an exported model, because a run must not replace
// it.
void check_room_for_export(const std::string& folder);

}  // namespace sepllm
