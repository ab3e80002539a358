// What may change in the settings of a run that continues, and what may not.
#pragma once

#include <string>

#include "train/train_config.h"
#include "train/train_state.h"

namespace sepllm {

// Whether a run of `config` may continue after the checkpoint `state` of `file`: the model, the data and the
// seed are what they were, and so is what attention saw in the steps that are done; all else may change
// (steps, rates, batch sizes, intervals, where files lie). Error (kInvalidArgument) naming the key, its value
// then and now.
void check_same_run(const TrainState& state, const TrainConfig& config, uint64_t data_fingerprint,
                    const std::string& file);

}  // namespace sepllm
