// sepllm train: a model trained, or trained on, by a YAML file of settings.
#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <csignal>

#include "apps/commands.h"
#include "apps/common.h"
#include "apps/output.h"
#include "apps/report_page.h"
#include "apps/report_plots.h"
#include "apps/train_samples.h"
#include "base/error.h"
#include "base/file.h"
#include "kernels/machine_rates.h"
#include "train/export_model.h"
#include "train/run_files.h"
#include "train/trainer.h"

namespace sepllm {
namespace {

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

class TrainCommand : public Command {
 public:
  TrainCommand() {
    own_.add_string("config", &config_, "YAML file of the settings", "FILE");
    own_.add_strings("set", &changes_, "settings that replace those of the file: lr=1e-3 policy.window=64",
                     "KEY=VALUE");
    own_.add_choice("export-type", &type_, {"f32", "bf16", "f16"}, "type of the finished model's weights");
    own_.add_flag("json", &json_, "one JSON value on standard output at the end");
  }
  std::string name() const override { return "train"; }
  std::string summary() const override { return "Train a model, from scratch or from a checkpoint"; }
  std::string usage() const override { return "--config run.yaml [--set key=value]..."; }
  std::vector<OptionGroup> groups() override { return {{"Options", &own_}}; }

  int run() override {
    if (config_.empty())
      throw Error(ErrorCode::kInvalidArgument, "no settings given", {.expected = "--config FILE"});
    const TrainConfig config = read_train_config(config_, changes_);
    ThreadPool pool(config.threads > 0 ? static_cast<int>(config.threads) : ThreadPool::default_size());
    const InterruptGuard guard;
    std::optional<Progress> progress(std::in_place, "training", config.train_steps);
    std::optional<TextSampler> sampler;
    Trainer::Callbacks callbacks;
    callbacks.gemm_flops = gemm_rate(pool);
    callbacks.sample_text = [&] { return sampler->text(); };
    callbacks.now = seconds_now;
    callbacks.stop = [&] { return guard.interrupted(); };
    callbacks.on_note = [](const std::string& text) { print_note(text); };
    double seconds_a_step = 0;
    callbacks.on_step = [&](const StepMetrics& m) {
      seconds_a_step += (seconds_a_step == 0 ? 1 : 0.1) * (m.seconds - seconds_a_step);
      const std::string line = step_line(config, m, seconds_a_step);
      progress->show(m.step, line);
      if (m.valid_loss || m.step == 1) print_note(fmt::format("step {}: {}", m.step, line));
      last_ = m;
    };
    Trainer trainer(config, pool, callbacks);
    if (config.sample_interval > 0) sampler.emplace(trainer, pool);
    print_note(fmt::format("{} parameters, {} to go of {} steps", trainer.learner().parameters().count(),
                           config.train_steps - trainer.step(), config.train_steps));
    const bool done = trainer.run();
    progress.reset();
    write_report(config.save);
    if (!done) {
      print_note(fmt::format("stopped after step {}: saved, the same command goes on", trainer.step()));
      return guard.terminated() ? 128 + SIGTERM : 128 + SIGINT;
    }
    const std::string model = model_path(config.save);
    if (!file_exists(model)) export_model(trainer, model, *weight_type(type_));
    finish(trainer, model);
    return 0;
  }

 private:
  static double gemm_rate(ThreadPool& pool) {
    Arena arena;
    return sgemm_flops({.pool = pool, .arena = arena}, 512);
  }

  // For people: what a step says.
  static std::string step_line(const TrainConfig& config, const StepMetrics& m, double seconds_a_step) {
    std::string line = fmt::format("loss {:.4f}", m.loss);
    if (m.valid_loss) line += fmt::format(" (held out {:.4f})", *m.valid_loss);
    line += fmt::format(", lr {:.2e}, |g| {:.2f}, {:.0f} tokens/s", m.lr, m.gradient_norm,
                        static_cast<double>(config.global_batch_size * config.seq_length) / m.seconds);
    if (m.gemm_share) line += fmt::format(", {:.0f} % of GEMM", 100 * *m.gemm_share);
    return line + fmt::format(", {} left", duration_text(static_cast<double>(config.train_steps - m.step) *
                                                         seconds_a_step));
  }

  // What the run is has been saved: a report that cannot be written takes nothing from it.
  static void write_report(const std::string& run) {
    try {
      write_run_report(run);
    } catch (const Error& e) {
      print_note(fmt::format("sepllm: warning: no report: {}", e.what()));
    }
  }

  void finish(const Trainer& trainer, const std::string& model) const {
    const auto valid = trainer.last_valid_loss();
    if (json_) {
      print_json({{"steps", trainer.step()},
                  {"loss", last_.loss},
                  {"valid_loss", valid ? Json(*valid) : Json()},
                  {"tokens", last_.tokens},
                  {"model", model}});
      return;
    }
    print(fmt::format("{} steps, {}model: {}\n", trainer.step(),
                      valid ? fmt::format("held-out loss {:.4f}, ", *valid) : "", model));
  }

  OptionSet own_;
  std::string config_, type_ = "f32";
  std::vector<std::string> changes_;
  bool json_ = false;
  StepMetrics last_;
};

}  // namespace

std::unique_ptr<Command> make_train_command() { return std::make_unique<TrainCommand>(); }

}  // namespace sepllm
