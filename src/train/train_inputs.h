// What a training run begins with: tokenizer, model and data, opened and checked. Nothing is computed or
// written.
#pragma once

#include <memory>

#include "base/json.h"
#include "model/config.h"
#include "text/tokenizer.h"
#include "train/comm.h"
#include "train/learner.h"
#include "train/token_data.h"
#include "train/train_config.h"

namespace sepllm {

struct TrainInputs {
  std::unique_ptr<Tokenizer> tokenizer;
  Json model_config;  // as a Hugging Face config.json
  ModelSpec spec;
  std::unique_ptr<TokenData> data, valid;  // valid: null if nothing is held out

  // Which keys the model's queries see under a policy of the run.
  TrainingPatterns patterns(const TrainConfig& config, const PolicySettings& settings) const;
};

// Call on all ranks: only rank 0 reads the model's config.json. Error for any fault of model, tokenizer or
// data on any rank (Comm::run_or_fail_together).
TrainInputs open_train_inputs(const TrainConfig& config, Comm& comm);

}  // namespace sepllm
