// sepllm train: a model trained, or trained on, by a YAML file of settings.
#include <fmt/format.h>

#include <chrono>
#include <cmath>

#include "apps/commands.h"
#include "apps/common.h"
#include "apps/output.h"
#include "base/error.h"
#include "base/file.h"
#include "kernels/machine_rates.h"
#include "train/export_model.h"
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
    const double rate = gemm_rate(pool);
    std::optional<Progress> progress(std::in_place, "training", config.train_steps);
    Trainer::Callbacks callbacks;
    callbacks.now = seconds_now;
    callbacks.stop = [&] { return guard.interrupted(); };
    callbacks.on_note = [](const std::string& text) { print_note(text); };
    double dense_before = 0;
    callbacks.on_step = [&](const StepMetrics& m) {
      const double dense = (m.dense_flops - dense_before) / m.seconds;
      dense_before = m.dense_flops;
      const auto per_step = static_cast<double>(config.global_batch_size * config.seq_length);
      const double left = static_cast<double>(config.train_steps - m.step) * m.seconds;
      const std::string line = fmt::format(
          "loss {:.4f}{}, lr {:.2e}, |g| {:.2f}, {:.0f} tokens/s, {:.0f} % of GEMM, {:.0f} s left", m.loss,
          m.valid_loss ? fmt::format(" (held out {:.4f})", *m.valid_loss) : "", m.lr, m.gradient_norm,
          per_step / m.seconds, 100 * dense / rate, left);
      progress->show(m.step, line);
      if (m.valid_loss || m.step == 1) print_note(fmt::format("step {}: {}", m.step, line));
      last_ = m;
    };
    Trainer trainer(config, pool, callbacks);
    dense_before = trainer.learner().flops().dense;
    print_note(fmt::format("{} parameters, {} to go of {} steps", trainer.learner().parameters().count(),
                           config.train_steps - trainer.step(), config.train_steps));
    const bool done = trainer.run();
    progress.reset();
    if (!done) {
      print_note(fmt::format("stopped after step {}: saved, the same command goes on", trainer.step()));
      return 1;
    }
    const std::string model = config.save + "/model";
    if (!file_exists(model)) export_model(trainer, model, *weight_type(type_));
    finish(trainer, model);
    return 0;
  }

 private:
  static double gemm_rate(ThreadPool& pool) {
    Arena arena;
    return sgemm_flops({.pool = pool, .arena = arena}, 512);
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
