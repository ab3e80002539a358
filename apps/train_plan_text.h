// What `train --dry-run` prints.
#pragma once

#include <cstdint>

#include "train/train_config.h"
#include "train/train_plan.h"

namespace sepllm {

// As measured here.
struct Surroundings {
  int64_t program_bytes;  // what the program takes beside the run: code, tokenizer, buffers of BLAS
  double gemm_rate;       // FLOP/s of all threads
};

void print_train_plan(const TrainConfig& config, const TrainPlan& plan, const Surroundings& here, bool json);

}  // namespace sepllm
