// A trained model as a Hugging Face folder, which this program and transformers load.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/dtype.h"
#include "train/parameters.h"
#include "train/train_state.h"

namespace sepllm {

struct ExportOptions {
  DType type = DType::kF32;  // of the weights: f32, bf16 or f16
  std::string tokenizer;     // folder or file; empty: where the run's settings say
  bool replace = false;      // a folder that is there is replaced; else it must be empty
};

// Writes `folder` whole or not at all: config.json (with the policy under "sepllm"), model.safetensors, the
// tokenizer's files, training.json (the facts of the training), and README.md, a card that tells them. The
// same bytes for the same state. Error (kIo, kInvalidArgument).
void export_model(const TrainState& state, Parameters& parameters, const std::string& folder,
                  const ExportOptions& options);

// Whether `folder` is what export_model would write.
bool is_exported(const TrainState& state, const std::string& folder, DType type);

// Error (kInvalidArgument) where something lies at `folder` that is no exported model, which a run must not
// replace.
void check_room_for_export(const std::string& folder);

}  // namespace sepllm
