// The learning rate of each step.
#pragma once

#include <cstdint>
#include <string>

namespace sepllm {

enum class LrDecayStyle { kCosine, kLinear, kConstant, kWsd };

struct LrSchedule {
  double lr = 6e-4;
  double min_lr = 6e-5;
  int64_t warmup_steps = 0;
  int64_t decay_steps = 0;  // steps until min_lr is reached, including the warm-up
  LrDecayStyle style = LrDecayStyle::kCosine;
  int64_t wsd_decay_steps = 0;  // for kWsd: how many of the last steps decay, linearly

  // The learning rate of step 1, 2, ...: linear from 0 during the warm-up, then down from lr to min_lr, where
  // it stays (Megatron's and GPT-NeoX's annealing).
  double at(int64_t step) const;
};

}  // namespace sepllm
