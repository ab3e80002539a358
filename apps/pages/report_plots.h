// The curves of training runs.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "train/run_files.h"

namespace sepllm {

// Losses by step, tokens, FLOPs and time; learning rate, gradient norm, speed, visible share: headings and
// plots, empty where no run has done a step. As large for a million steps as for a thousand.
std::string report_plots(const std::vector<RunRecord>& runs);

int run_colour(size_t index);  // 1 to 5, of the page's colours

// The lowest loss that all runs reach: held out where all have it, else the smoothed training loss. None
// where a run has neither.
struct CommonLoss {
  double loss = 0;
  bool held_out = false;
};
std::optional<CommonLoss> common_loss(const std::vector<RunRecord>& runs);
// The step at which a run first came to it.
StepMetrics first_below(const RunRecord& run, const CommonLoss& goal);

}  // namespace sepllm
