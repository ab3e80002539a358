// The files in the folder of a training run next to its checkpoints (train/train_state.h), and how they are
// read.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "train/metrics.h"

namespace sepllm {

std::string metrics_path(const std::string& run);  // metrics.jsonl: one line per step (train/metrics.h)
std::string samples_path(const std::string& run);  // samples.jsonl: {"step": .., "text": ..}
std::string facts_path(
    const std::string& run);  // run.json: {"settings": .., "parameters": .., "program": ..}
std::string model_path(const std::string& run);  // the finished model
// The settings in force, as run.json has them; null where there is no such file, or none that can be read.
Json run_settings(const std::string& run);
std::string report_path(const std::string& run);

struct TextSample {
  int64_t step = 0;
  std::string text;
};

// Everything that a run has written so far; it may still be running, or have been interrupted anywhere.
struct RunRecord {
  std::string name;                // its folder, or as much of the path as tells it from others
  Json settings;                   // null if not known
  int64_t parameters = 0;          // 0 if not known
  Json program;                    // which program ran on which machine; null if not known
  std::vector<StepMetrics> steps;  // ascending; `elapsed` is always set, other fields may be NaN
  std::vector<TextSample> samples;
  int64_t unreadable_lines = 0;
};

// Error (kNotFound) for a folder without metrics.jsonl. Lines that are not metrics are counted; a last line
// that does not end, as a killed run leaves it, is ignored. If a step occurs twice, the later line counts.
RunRecord read_run(const std::string& folder);

// The figures of a run for one line of a table.
struct RunSummary {
  int64_t steps = 0;  // done
  int64_t tokens = 0;
  double dense_flops = 0, attention_flops = 0;
  double seconds = 0;
  double loss = 0;                               // smoothed, at the end
  double valid_loss = 0, best_valid_loss = 0;    // the last and the lowest
  double visible_share = 0;                      // mean
  double tokens_per_second = 0, gemm_share = 0;  // medians
  int64_t skipped = 0;
};
RunSummary summarise(const RunRecord& run);  // NaN for unknown values.
Json summary_json(const RunRecord& run);

// Tokens per second of each step; NaN where they are not known.
std::vector<double> speeds(const RunRecord& run);

// A trailing mean over about a fiftieth of the values, over fewer at their beginning (few values are not
// averaged at all). NaN are skipped.
std::vector<double> smoothed(const std::vector<double>& values);

}  // namespace sepllm
