#include "train/run_files.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <ios>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/sign_of_life.h"

namespace sepllm {
namespace {

// Calls fn(value of the line) for each line, and counts lines that are not JSON. A last line that does not
// end and is not JSON is not counted: it is still being written, or was when the run was killed.
template <typename Fn>
int64_t for_each_line(const std::string& path, const Fn& fn) {
  int64_t unreadable = 0;
  std::ifstream in(path, std::ios::binary);
  for (std::string line; std::getline(in, line);) {
    sign_of_life();
    if (line.empty()) continue;
    const Json json = json_or_null(line);
    if (!fn(json) && !in.eof()) ++unreadable;
  }
  return unreadable;
}

// Runs of older versions do not have the time since the beginning.
void fill_elapsed(std::vector<StepMetrics>* steps) {
  double sum = 0;
  for (StepMetrics& m : *steps) {
    if (std::isfinite(m.seconds)) sum += m.seconds;
    if (std::isfinite(m.elapsed)) sum = m.elapsed;
    m.elapsed = sum;
  }
}

double median(std::vector<double> values) {
  std::erase_if(values, [](double v) { return !std::isfinite(v); });
  if (values.empty()) return NAN;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// As JSON: unknown values become null.
Json known(double value) { return std::isfinite(value) ? Json(value) : Json(); }

constexpr uint64_t kMostFacts = uint64_t{1} << 24;  // bytes of run.json

}  // namespace

std::string metrics_path(const std::string& run) { return run + "/metrics.jsonl"; }
std::string samples_path(const std::string& run) { return run + "/samples.jsonl"; }
std::string facts_path(const std::string& run) { return run + "/run.json"; }
std::string model_path(const std::string& run) { return run + "/model"; }
std::string report_path(const std::string& run) { return run + "/report.html"; }

Json run_settings(const std::string& run) {
  if (!is_regular_file(facts_path(run))) return {};
  const Json facts = json_or_null(read_file(facts_path(run), kMostFacts));
  return facts.is_object() && facts.contains("settings") ? facts["settings"] : Json();
}

RunRecord read_run(const std::string& folder) {
  const std::string path = metrics_path(folder);
  if (!is_regular_file(path)) {
    throw Error(
        ErrorCode::kNotFound, "not a training run's folder",
        {.file = folder, .expected = "metrics.jsonl in it", .hint = "give the folder that `save` names"});
  }
  RunRecord run;
  const std::filesystem::path whole = std::filesystem::weakly_canonical(folder);
  run.name = whole.filename().empty() ? folder : whole.filename().string();
  run.unreadable_lines = for_each_line(path, [&run](const Json& json) {
    const auto m = parse_metrics(json);
    if (!m) return false;
    while (!run.steps.empty() && run.steps.back().step >= m->step) run.steps.pop_back();
    run.steps.push_back(*m);
    return true;
  });
  fill_elapsed(&run.steps);
  run.unreadable_lines += for_each_line(samples_path(folder), [&run](const Json& json) {
    if (!json.is_object() || !json.contains("step") || !json["step"].is_number_integer()) return false;
    if (!json.contains("text") || !json["text"].is_string()) return false;
    const auto step = json["step"].get<int64_t>();
    while (!run.samples.empty() && run.samples.back().step >= step) run.samples.pop_back();
    run.samples.push_back({step, json["text"].get<std::string>()});
    return true;
  });
  if (is_regular_file(facts_path(folder))) {
    const std::string file = facts_path(folder);
    const Json facts = parse_json(read_file(file, kMostFacts), file);
    const JsonObject object(facts, file);
    run.parameters = object.integer_or("parameters", 0, 0, INT64_MAX);
    if (object.has("settings")) run.settings = object.object("settings").json();
    if (object.has("program")) run.program = object.object("program").json();
  }
  return run;
}

std::vector<double> speeds(const RunRecord& run) {
  std::vector<double> out;
  const StepMetrics begin;
  const StepMetrics* before = &begin;
  for (const StepMetrics& m : run.steps) {
    const bool known = m.tokens >= 0 && before->tokens >= 0 && m.seconds > 0;
    const auto steps = static_cast<double>(m.step - before->step);
    out.push_back(known ? static_cast<double>(m.tokens - before->tokens) / steps / m.seconds : NAN);
    before = &m;
  }
  return out;
}

std::vector<double> smoothed(const std::vector<double>& values) {
  const double longest = static_cast<double>(values.size()) / 50;
  std::vector<double> out(values.size(), NAN);
  double sum = 0, weight = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    // The window is short at first, where losses fall fast.
    const double share = 1 / (1 + std::min(longest, static_cast<double>(i) / 20));
    if (std::isfinite(values[i])) {
      sum += share * (values[i] - sum);
      weight += share * (1 - weight);
    }
    if (weight > 0) out[i] = sum / weight;
  }
  return out;
}

RunSummary summarise(const RunRecord& run) {
  RunSummary s;
  std::vector<double> losses, gemm;
  double visible = 0, visible_steps = 0;
  s.valid_loss = s.best_valid_loss = NAN;
  for (const StepMetrics& m : run.steps) {
    losses.push_back(m.skipped ? NAN : m.loss);
    gemm.push_back(m.gemm_share.value_or(NAN));
    s.skipped += m.skipped ? 1 : 0;
    if (std::isfinite(m.visible_share)) {
      visible += m.visible_share;
      ++visible_steps;
    }
    if (!m.valid_loss) continue;
    s.valid_loss = *m.valid_loss;
    s.best_valid_loss = std::fmin(s.best_valid_loss, s.valid_loss);
  }
  s.loss = losses.empty() ? NAN : smoothed(losses).back();
  s.visible_share = visible_steps > 0 ? visible / visible_steps : NAN;
  s.gemm_share = median(std::move(gemm));
  s.tokens_per_second = median(speeds(run));
  if (run.steps.empty()) return s;
  const StepMetrics& last = run.steps.back();
  s.steps = last.step;
  s.tokens = std::max<int64_t>(0, last.tokens);
  s.dense_flops = last.dense_flops;
  s.attention_flops = last.attention_flops;
  s.seconds = last.elapsed;
  return s;
}

Json summary_json(const RunRecord& run) {
  const RunSummary s = summarise(run);
  return {{"run", run.name},
          {"parameters", run.parameters > 0 ? Json(run.parameters) : Json()},
          {"steps", s.steps},
          {"train_steps", run.settings.is_object() ? run.settings.value("train_steps", Json()) : Json()},
          {"tokens", s.tokens},
          {"dense_flops", known(s.dense_flops)},
          {"attention_flops", known(s.attention_flops)},
          {"seconds", known(s.seconds)},
          {"loss", known(s.loss)},
          {"valid_loss", known(s.valid_loss)},
          {"best_valid_loss", known(s.best_valid_loss)},
          {"visible_share", known(s.visible_share)},
          {"tokens_per_second", known(s.tokens_per_second)},
          {"gemm_share", known(s.gemm_share)},
          {"skipped", s.skipped}};
}

}  // namespace sepllm
