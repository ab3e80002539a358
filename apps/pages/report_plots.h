// The curves of training runs.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "train/run_files.h"

namespace sepllm {

// Headings and plots of losses by step, tokens, FLOPs and time, and of learning rate, gradient norm, speed
// and visible share; empty if no run has done a step. The size is the same for a million steps as for a
// thousand.
std::string report_plots(const std::vector<RunRecord>& runs);

int run_colour(size_t index);  // 1 to 5, of the page's colours

// The lowest loss that all runs reach: on the held-out part if all have one, else the smoothed training loss.
// Nullopt if a run has neither.
struct CommonLoss {
  double loss = 0;
  bool held_out = false;
};
std::optional<CommonLoss> common_loss(const std::vector<RunRecord>& runs);
// The first step at which a run reached it.
StepMetrics first_below(const RunRecord& run, const CommonLoss& goal);

}  // namespace sepllm
