// In which precision a training run computes: the setting `compute` and what follows from it.
#pragma once

#include <string>

#include "base/json.h"
#include "train/comm.h"
#include "train/learner.h"
#include "train/train_config.h"

namespace sepllm {

// What makes products of bf16 on this processor: "AMX", "AVX512_BF16", or "" where nothing does. Results
// differ in the last bits between the two, because they add in another order.
std::string bf16_unit();

// Replaces `auto` in compute, weight_storage and activation_storage by the values in force. Call on all
// ranks, before memory is planned. `before`: the settings in force when the run was started (run.json), null
// for a new run; a run that continues keeps them where the new settings do not say otherwise. A new run
// computes in bf16 where all ranks have the same unit for it, else in f32. Error (kInvalidArgument) where
// bf16 is in force and this processor, or another rank's, cannot do it.
void settle_compute(TrainConfig* config, const Json& before, Comm& comm);

// The same settings for a learner.
void apply_compute(const TrainConfig& config, Learner* learner);

// "bf16 (AVX512_BF16)" or "f32": for the log and run.json.
std::string compute_text(const TrainConfig& config);

}  // namespace sepllm
