// What a run says of each step, and of a given model before the first: one line of metrics.jsonl.
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
  double visible_share = 1;  // of the keys that full attention would have seen, the step's mean over layers
  double seconds = 0;        // of this step
  double elapsed = 0;        // since the run began: of all its parts, what was done twice left out
  std::optional<double> gemm_share{};  // dense FLOPs/s of this step over the machine's rate of products
  std::optional<double> valid_loss{};
  int64_t ranks = 1;
  double waited = 0;  // several ranks: seconds that rank 0 waited for others
};

Json metrics_json(const StepMetrics& m);

// What metrics_json wrote, now or by an older version: what is missing or null is NaN, or -1 for `tokens`.
// nullopt: no object with an integer "step" >= 0 (0: a validation before the first step).
std::optional<StepMetrics> parse_metrics(const Json& line);

}  // namespace sepllm
