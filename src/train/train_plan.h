// Plans what a training run will take: memory, tokens, FLOPs. It runs the passes themselves over memory that
// only has addresses, with a pool that runs no tasks: everything that ops and kernels ask of the arena is
// counted.
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
  int64_t pass_total = 0;  // arena and workspace, in units of the pages that the system gives
  int64_t total() const { return weights + gradients + moments + pass_total; }

  int64_t tokens_per_step = 0;
  // Of a step under the first policy: the mean over the first samples' patterns.
  double dense_flops = 0, attention_flops = 0;
  // visible pairs as a share of full attention's pairs in the same samples, over all layers
  double visible_share = 0;
  double epochs = 0;  // how often the run will read all of its data
};

// The plan for one of `n_ranks` ranks with `n_threads` threads each. The position in the data does not
// change.
TrainPlan plan_training(const TrainConfig& config, const TrainInputs& inputs, int n_threads, int n_ranks = 1);

}  // namespace sepllm
