// What a training run will take: memory, tokens, FLOPs. Found by running the passes themselves over memory
// that is not there, with a pool that runs nothing: whatever ops and kernels ask of the arena is counted.
#pragma once

#include <cstdint>

#include "train/learner.h"
#include "train/train_config.h"
#include "train/train_inputs.h"

namespace sepllm {

struct TrainPlan {
  int64_t parameters = 0;
  // Bytes at the peak of a step, on each rank.
  int64_t weights = 0, gradients = 0, moments = 0;
  Learner::PassBytes pass;
  int64_t pass_total = 0;  // arena and workspace, in the pages that the system gives
  int64_t total() const { return weights + gradients + moments + pass_total; }

  int64_t tokens_per_step = 0;
  // Of a step under the first policy, from the patterns of the first samples: a mean.
  double dense_flops = 0, attention_flops = 0;
  double visible_share = 0;  // of the pairs that full attention has in the same samples, over all layers
  double epochs = 0;         // how often the run will see its data
};

// The plan of one of `n_ranks` ranks with `n_threads` threads each. The data are where they were afterwards.
TrainPlan plan_training(const TrainConfig& config, const TrainInputs& inputs, int n_threads, int n_ranks = 1);

}  // namespace sepllm
