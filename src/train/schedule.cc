#include "train/schedule.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace sepllm {

double LrSchedule::at(int64_t step) const {
  if (warmup_steps > 0 && step <= warmup_steps)
    return lr * static_cast<double>(step) / static_cast<double>(warmup_steps);
  if (style == LrDecayStyle::kConstant) return lr;
  const int64_t begin =
      style == LrDecayStyle::kWsd ? std::max(warmup_steps, decay_steps - wsd_decay_steps) : warmup_steps;
  if (step <= begin) return lr;
  if (step >= decay_steps) return min_lr;
  const double done = static_cast<double>(step - begin) / static_cast<double>(decay_steps - begin);
  const double left =
      style == LrDecayStyle::kCosine ? 0.5 * (1 + std::cos(std::numbers::pi * done)) : 1 - done;
  return min_lr + left * (lr - min_lr);
}

}  // namespace sepllm
