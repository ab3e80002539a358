// New models: the config.json for a training run's sizes, and initial weights.
#pragma once

#include <cstdint>
#include <string>

#include "base/json.h"
#include "model/config.h"
#include "train/parameters.h"
#include "train/train_config.h"

namespace sepllm {

// config.json of a new model, as transformers reads it. `vocab_size`: rows of the embedding; `eos`, `bos`:
// the tokenizer's, or -1.
Json new_model_config(const TrainConfig& config, int64_t vocab_size, int64_t bos, int64_t eos);

// Draws the weights of a new model from streams of `seed`, one for each tensor. "pythia": normal with
// deviation sqrt(2 / (5 hidden_size)), the matrices that write to the residual stream 2 / (n_layers
// sqrt(hidden_size)) (GPT-NeoX's small_init and wang_init); "gpt2": .02, those matrices .02 / sqrt(2
// n_layers). Norms multiply by 1, biases 0.
void initialise(Parameters* parameters, const ModelSpec& spec, const std::string& init, uint64_t seed);

}  // namespace sepllm
