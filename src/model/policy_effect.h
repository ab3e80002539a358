// Whether a policy changes anything in a model, and whether the model has what it needs.
#pragma once

#include <string>

#include "attention/policy.h"
#include "model/config.h"

namespace sepllm {

// Logs one warning if `policy` is not full and yet has no effect, because every layer of the model has a
// sliding window of its own. `source` is the model's folder or file.
void warn_if_without_effect(const Policy& policy, const ModelConfig& config, const std::string& source);

// Error (kInvalidArgument) if the policy is native sparse attention in a layer that has no gates for it.
// `source` is the model's folder or file.
void require_nsa_gates(const Policy& policy, const ModelConfig& config, const std::string& source);

}  // namespace sepllm
