// The metrics of one step, or of a given model before the first step: one line of metrics.jsonl.
#pragma once

#include <cstdint>
#include <optional>

#include "base/json.h"

namespace sepllm {

struct StepMetrics {
  int64_t step = 0;
  double loss = 0;  // mean natural-log NLL of the step's targets
  double lr = 0;
  double gradient_norm = 0;                     // before clipping
  bool skipped = false;                         // by the spike guard
  int64_t tokens = 0;                           // since the run began
  double dense_flops = 0, attention_flops = 0;  // since the run began
  // the share of full attention's keys that are visible, as the step's mean over layers
  double visible_share = 1;
  double seconds = 0;  // of this step
  double elapsed = 0;  // since the run began, over all its parts; steps that were done twice count once
  std::optional<double> gemm_share{};  // dense FLOPs/s of this step over the machine's rate of products
  std::optional<double> valid_loss{};
  int64_t ranks = 1;
  double waited = 0;  // with several ranks: seconds that rank 0 waited for others
};

Json metrics_json(const StepMetrics& m);

// Reads what metrics_json wrote, now or in an older version: missing or null values become NaN, or -1 for
// `tokens`. nullopt if it is not an object with an integer "step" >= 0 (0: a validation before the first
// step).
std::optional<StepMetrics> parse_metrics(const Json& line);

}  // namespace sepllm
