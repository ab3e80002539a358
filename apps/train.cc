// sepllm train: trains a new model, or trains a model further, as a YAML file of settings says.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apps/pages/report_page.h"
#include "apps/shell/commands.h"
#include "apps/shell/common.h"
#include "apps/shell/figures.h"
#include "apps/shell/output.h"
#include "apps/shell/provenance.h"
#include "apps/train_plan_text.h"
#include "apps/train_ranks.h"
#include "apps/train_samples.h"
#include "base/error.h"
#include "base/file.h"
#include "base/options.h"
#include "base/output_place.h"
#include "base/process.h"
#include "kernels/machine_rates.h"
#include "train/compute.h"
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
    own_.add_strings("set", &changes_,
                     "a setting that replaces the file's, as in --set lr=1e-3 --set policy.window=64",
                     "KEY=VALUE");
    own_.add_choice("export-type", &type_, {"f32", "bf16", "f16"}, "type of the finished model's weights");
    own_.add_flag("dry-run", &dry_run_,
                  "check everything and print what the run will take (memory, tokens, FLOPs); write nothing");
    own_.add_flag("list-settings", &list_, "print every key of the YAML file, as a table in Markdown");
    own_.add_flag("json", &json_, "print one JSON value on standard output at the end");
  }
  std::string name() const override { return "train"; }
  std::string summary() const override { return "Train a model, from scratch or from a checkpoint"; }
  std::string usage() const override { return "--config run.yaml [--set key=value]..."; }
  std::vector<OptionGroup> groups() override { return {{"Options", &own_}}; }

  int run() override {
    if (list_) {
      print(train_keys_markdown());
      return 0;
    }
    return with_ranks(start_limit(), [this](Comm& comm) { return train(comm); });
  }

 private:
  // Seconds until all ranks must have met. Only rank 0 reads the file of settings, so that before then the
  // limit can come only from --set, which all ranks get.
  double start_limit() const {
    constexpr double kUsual = 50;
    for (const std::string& change : changes_) {
      const std::string_view key = "rank_timeout=";
      if (!change.starts_with(key)) continue;
      if (const auto seconds = parse_integer(change.substr(key.size())))
        return std::max(kUsual, static_cast<double>(*seconds));
    }
    return kUsual;
  }

  // Only rank 0 reads the file of settings; the others get it from rank 0.
  TrainConfig read_config(Comm& comm) const {
    Json settings;
    TrainConfig config;
    comm.run_or_fail_together([&] {
      if (!comm.is_root()) return;
      if (config_.empty())
        throw Error(ErrorCode::kInvalidArgument, "no settings given", {.expected = "--config FILE"});
      settings = read_train_settings(config_, changes_);
      config = parse_train_config(settings, config_);
    });
    return comm.size() == 1
               ? config
               : parse_train_config(parse_json(comm.broadcast(json_text(settings)), config_), config_);
  }

  // Of a run that continues; else null.
  static Json settings_before(const TrainConfig& config, Comm& comm) {
    Json before;
    comm.run_or_fail_together([&] {
      if (comm.is_root() && !checkpoint_steps(config.save).empty()) before = run_settings(config.save);
    });
    return parse_json(comm.broadcast(json_text(before)), facts_path(config.save));
  }

  int train(Comm& comm) {
    TrainConfig config = read_config(comm);
    comm.set_timeout(static_cast<double>(config.rank_timeout));
    settle_compute(&config, settings_before(config, comm), comm);
    const std::string model = model_path(config.save);
    const DType type = *weight_type(type_);
    // If something is in the way of the run's files or of the model, fail now and not after the training.
    std::optional<OutputPlace> place;
    comm.run_or_fail_together([&] {
      if (!comm.is_root()) return;
      check_room_for_export(model);
      if (!dry_run_) place.emplace(metrics_path(config.save), OutputKind::kGrowingFile);
    });
    const int threads = config.threads > 0 ? static_cast<int>(config.threads) : comm.threads_per_rank();
    ThreadPool pool(threads);
    const double rate = gemm_rate(pool) * comm.size();
    const std::vector<int> sharing = comm.ranks_sharing_memory();
    const auto n_sharing = static_cast<int>(sharing.size());
    if (dry_run_) return show_plan(config, comm, {threads, n_sharing, rate});
    const InterruptGuard guard;
    std::optional<Progress> progress;
    if (comm.is_root()) progress.emplace("training", config.train_steps);
    std::optional<TextSampler> sampler;
    Trainer::Callbacks callbacks;
    callbacks.program = provenance(threads, config.seed);
    callbacks.gemm_flops = rate;
    callbacks.before_memory = [&](const TrainPlan& plan) {
      if (comm.rank() == sharing.front()) check_plan_fits(plan, n_sharing, memory_at_hand(), false);
    };
    callbacks.sample_text = [&] { return sampler->text(); };
    callbacks.now = seconds_now;
    callbacks.stop = [&] { return guard.interrupted() || asked_to_save(); };
    if (comm.is_root()) callbacks.on_note = [](const std::string& text) { print_note(text); };
    double seconds_a_step = 0;
    callbacks.on_step = [&](const StepMetrics& m) {
      if (!comm.is_root()) return;
      seconds_a_step += (seconds_a_step == 0 ? 1 : 0.1) * (m.seconds - seconds_a_step);
      const std::string line = step_line(config, m, seconds_a_step);
      progress->show(m.step, line);
      if (m.valid_loss || m.step == 1) print_note(fmt::format("step {}: {}", m.step, line));
      last_ = m;
    };
    Trainer trainer(config, pool, callbacks, comm);
    if (comm.is_root() && config.sample_interval > 0) sampler.emplace(trainer, pool);
    callbacks.on_note(fmt::format("{} parameters, {} of {} steps to go, products in {}, {} of memory",
                                  trainer.learner().parameters().count(), config.train_steps - trainer.step(),
                                  config.train_steps, compute_text(config),
                                  human_bytes(trainer.plan().total())));
    if (comm.size() > 1) {
      callbacks.on_note(
          fmt::format("{} ranks, {} on each: parameters and gradients {}, its shard of the moments {}",
                      comm.size(), threads == 1 ? "one thread" : fmt::format("{} threads", threads),
                      human_bytes(2 * 4 * trainer.learner().parameters().size()),
                      human_bytes(trainer.learner().moment_bytes())));
    }
    const bool done = trainer.run();
    progress.reset();
    comm.set_activity("writing report and model");
    if (comm.is_root()) write_report(config.save);
    if (!done) {
      callbacks.on_note(
          fmt::format("stopped after step {}: saved; the same command continues", trainer.step()));
      return 128 + (guard.interrupted() && !guard.terminated() ? SIGINT : SIGTERM);
    }
    if (!comm.is_root()) return 0;
    if (!is_exported(trainer.state(), model, type))
      export_model(trainer.state(), trainer.learner().parameters(), model,
                   {.type = type, .tokenizer = "", .replace = true});
    finish(trainer, model);
    return 0;
  }

  static double gemm_rate(ThreadPool& pool) {
    Arena arena;
    return sgemm_flops({.pool = pool, .arena = arena}, 512);
  }

  // One step as a line for people.
  static std::string step_line(const TrainConfig& config, const StepMetrics& m, double seconds_a_step) {
    std::string line = fmt::format("loss {:.4f}", m.loss);
    if (m.valid_loss) line += fmt::format(" (held out {:.4f})", *m.valid_loss);
    line += fmt::format(", lr {:.2e}, |g| {:.2f}, {:.0f} tokens/s", m.lr, m.gradient_norm,
                        static_cast<double>(config.global_batch_size * config.seq_length) / m.seconds);
    if (m.gemm_share) line += fmt::format(", {:.0f} % of GEMM", 100 * *m.gemm_share);
    return line + fmt::format(", {} left", duration_text(static_cast<double>(config.train_steps - m.step) *
                                                         seconds_a_step));
  }

  // The run itself has been saved, so a report that cannot be written is only a warning.
  static void write_report(const std::string& run) {
    try {
      write_run_report(run);
    } catch (const Error& e) {
      print_note(fmt::format("sepllm: warning: the report could not be written: {}", e.marked_text()));
    }
  }

  void finish(const Trainer& trainer, const std::string& model) const {
    const auto valid = trainer.last_valid_loss();
    if (json_) {
      print_json({{"steps", trainer.step()},
                  {"loss", last_.loss},
                  {"valid_loss", valid ? Json(*valid) : Json()},
                  {"tokens", last_.tokens},
                  {"peak_rss_bytes", peak_rss_bytes()},
                  {"program", trainer.program()},
                  {"model", model}});
      return;
    }
    print(fmt::format("{} steps, {}model: {}\n", trainer.step(),
                      valid ? fmt::format("held-out loss {:.4f}, ", *valid) : "", model));
  }

  struct Machine {
    int threads, n_sharing;  // threads of a rank; number of ranks that share its memory
    double gemm_rate;
  };

  int show_plan(const TrainConfig& config, Comm& comm, const Machine& here) const {
    const TrainInputs inputs = open_train_inputs(config, comm);
    const int64_t program = rss_bytes();
    comm.run_or_fail_together([&] {
      if (!comm.is_root()) return;
      const TrainPlan plan = plan_training(config, inputs, here.threads, comm.size());
      const MemoryAtHand at_hand = memory_at_hand();
      check_plan_fits(plan, here.n_sharing, at_hand, true);
      print_train_plan(config, plan, {program, here.gemm_rate, at_hand}, json_);
    });
    return 0;
  }

  OptionSet own_;
  std::string config_, type_ = "f32";
  std::vector<std::string> changes_;
  bool json_ = false, dry_run_ = false, list_ = false;
  StepMetrics last_;
};

}  // namespace

std::unique_ptr<Command> make_train_command() { return std::make_unique<TrainCommand>(); }

}  // namespace sepllm
