// The text that `train --dry-run` prints.
#pragma once

#include <cstdint>

#include "base/memory_at_hand.h"
#include "train/train_config.h"
#include "train/train_plan.h"

namespace sepllm {

// Facts measured on this machine.
struct Surroundings {
  // memory that the program takes in addition to the run: code, tokenizer, buffers of BLAS
  int64_t program_bytes;
  double gemm_rate;  // FLOP/s of all threads
  MemoryAtHand at_hand;
};

// Checks whether a run of this plan fits the memory at hand, shared by `n_ranks` ranks. Error (kOutOfRange)
// with the figures if it does not, unless `only_planned`; a warning if it is tight.
void check_plan_fits(const TrainPlan& plan, int n_ranks, const MemoryAtHand& at_hand, bool only_planned);

void print_train_plan(const TrainConfig& config, const TrainPlan& plan, const Surroundings& here, bool json);

}  // namespace sepllm
