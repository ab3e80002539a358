// The samples of a training run, as its settings choose them.
#pragma once

#include <cstdint>
#include <memory>

#include "train/token_data.h"
#include "train/train_config.h"

namespace sepllm {

struct TrainingData {
  std::unique_ptr<TokenData> train;
  // valid_data, or the last part of each file of data; null if there is none
  std::unique_ptr<TokenData> held_out;
};

// Opens the token files of `config`. Error as for TokenData.
TrainingData open_training_data(const TrainConfig& config, int64_t vocab_size);

}  // namespace sepllm
