// Checks which settings of a run may change when it is continued.
#pragma once

#include <cstdint>
#include <string>

#include "train/train_config.h"
#include "train/train_state.h"

namespace sepllm {

// Whether a run of `config` may continue from the checkpoint `state` of `file`: the model, the data and the
// seed must be the same, and so must be the keys that attention saw in the steps that are done; everything
// else may change (steps, rates, batch sizes, intervals, where files lie). Error (kInvalidArgument) naming
// the key and its values then and now.
void check_same_run(const TrainState& state, const TrainConfig& config, uint64_t data_fingerprint,
                    const std::string& file);

}  // namespace sepllm
