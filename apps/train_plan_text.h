// What `train --dry-run` prints.
#pragma once

#include <cstdint>

#include "base/memory_at_hand.h"
#include "train/train_config.h"
#include "train/train_plan.h"

namespace sepllm {

// As measured here.
struct Surroundings {
  int64_t program_bytes;  // what the program takes beside the run: code, tokenizer, buffers of BLAS
  double gemm_rate;       // FLOP/s of all threads
  MemoryAtHand at_hand;
};

// Whether a run of this plan fits the memory at hand, of which `n_ranks` ranks take their parts: Error
// (kOutOfRange) with the figures where it cannot, unless `only_planned`; a warning where it is tight.
void check_plan_fits(const TrainPlan& plan, int n_ranks, const MemoryAtHand& at_hand, bool only_planned);

void print_train_plan(const TrainConfig& config, const TrainPlan& plan, const Surroundings& here, bool json);

}  // namespace sepllm
