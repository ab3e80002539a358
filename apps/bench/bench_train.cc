// sepllm bench train: whole training steps of a published shape, next to the rate of matrix products in the
// same run.
#include <fmt/format.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "apps/bench/bench_options.h"
#include "apps/bench/data/separators.h"
#include "apps/bench/turns.h"
#include "apps/shell/commands.h"
#include "apps/shell/common.h"
#include "apps/shell/figures.h"
#include "apps/shell/output.h"
#include "apps/shell/provenance.h"
#include "base/build_info.h"
#include "base/error.h"
#include "base/rng.h"
#include "kernels/machine_rates.h"
#include "model/policy_effect.h"
#include "model/shapes.h"
#include "tensor/op_times.h"
#include "train/compute.h"
#include "train/learner.h"
#include "train/new_model.h"

namespace sepllm {
namespace {

constexpr int64_t kMostTokens = bench::kBookTokens;
constexpr int32_t kSeparator = 1;

template <typename Fn>
double seconds_of(const Fn& fn) {
  const auto start = std::chrono::steady_clock::now();
  fn();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Seconds of a step, by what is done.
struct StepTimes {
  OpTimes ops;
  double accumulate = 0, clear = 0, norm = 0, adamw = 0;
};

// Steps of one length: a model of its own, and always the same samples.
class TrainCase {
 public:
  // `config`: compute and what belongs to it, settled, and activation_checkpointing.
  TrainCase(const ModelSpec& spec, const PolicySettings& settings, const TrainConfig& config, int64_t tokens,
            int64_t batch, ThreadPool& pool)
      : tokens_(tokens), learner_(spec, pool) {
    initialise(&learner_.parameters(), spec, "gpt2", 1);
    TokenSet separators(spec.config.vocab_size);
    if (settings.policy.uses_separators()) separators.insert(kSeparator);
    learner_.set_replay_layers(config.activation_checkpointing);
    apply_compute(config, &learner_);
    make_samples(settings, spec.config.vocab_size, batch);
    count_pairs(settings.policy, separators, spec.config.n_layers);
    learner_.set_patterns({settings.policy, std::move(separators)});
    const auto length = static_cast<int64_t>(samples_.size()) * tokens_;
    factor_ = 1.0 / static_cast<double>(length);
  }

  // Seconds of a step with everything that the trainer does: clearing gradients, their norm, clipping, AdamW.
  double step() {
    learner_.set_times(&times_.ops);
    learner_.set_flops({});
    ++steps_;
    const double clear = seconds_of([&] { learner_.clear_gradients(); });
    const double accumulate = seconds_of([&] { loss_ = learner_.accumulate(samples_, factor_) * factor_; });
    double length = 0;
    const double norm = seconds_of([&] { length = learner_.gradient_norm(); });
    const double adamw = seconds_of([&] {
      learner_.step({.lr = 1e-4F,
                     .weight_decay = 0.1F,
                     .gradient_scale = static_cast<float>(length > 1 ? 1 / length : 1),
                     .step = steps_});
    });
    times_.clear += clear;
    times_.accumulate += accumulate;
    times_.norm += norm;
    times_.adamw += adamw;
    return clear + accumulate + norm + adamw;
  }

  int64_t tokens() const { return tokens_; }
  double loss() const { return loss_; }
  const Learner::Flops& flops() const { return learner_.flops(); }  // of a step
  // Visible pairs of all layers as a share of causal attention's.
  double kept() const { return kept_; }
  int64_t n_parameters() { return learner_.parameters().count(); }
  // Parameters, gradients and two moments; activations and scratch.
  int64_t bytes() {
    const Learner::PassBytes& pass = learner_.pass_bytes();
    return learner_.parameters().storage_bytes() + 12 * learner_.parameters().size() + pass.arena +
           pass.workspace;
  }

  // Seconds of a step by op, mean over all steps.
  Json breakdown() const {
    const auto n = static_cast<double>(steps_);
    Json out = Json::object();
    double in_ops = 0;
    for (size_t k = 0; k < kOpNames.size(); ++k) {
      const double forward = times_.ops.forward[k], backward = times_.ops.backward[k];
      in_ops += forward + backward;
      if (forward > 0) out[std::string(kOpNames[k]) + "_forward"] = forward / n;
      if (backward > 0) out[std::string(kOpNames[k]) + "_backward"] = backward / n;
    }
    out["clear_gradients"] = times_.clear / n;
    out["gradient_norm"] = times_.norm / n;
    out["adamw"] = times_.adamw / n;
    out["other"] = (times_.accumulate - in_ops) / n;
    return out;
  }
  void forget_times() {
    times_ = {};
    steps_ = 0;
  }

 private:
  // Random tokens, with separators where a book has them.
  void make_samples(const PolicySettings& settings, int64_t vocab_size, int64_t batch) {
    std::vector<int64_t> separators;
    if (settings.policy.uses_separators())
      separators = bench::book_separators(settings.separators, tokens_ * batch);
    const Rng rng(1);
    auto next = separators.begin();
    for (int64_t b = 0; b < batch; ++b) {
      Sample sample{.tokens = std::vector<int32_t>(static_cast<size_t>(tokens_ + 1)), .document_starts = {0}};
      for (int64_t t = 0; t <= tokens_; ++t) {
        const int64_t at = b * tokens_ + t;
        const auto other = 2 + static_cast<int32_t>(rng.bits(static_cast<uint64_t>(at)) %
                                                    static_cast<uint64_t>(vocab_size - 2));
        const bool separates = t < tokens_ && next != separators.end() && *next == at;
        if (separates) ++next;
        sample.tokens[static_cast<size_t>(t)] = separates ? kSeparator : other;
      }
      samples_.push_back(std::move(sample));
    }
  }

  void count_pairs(const Policy& policy, const TokenSet& separators, int64_t n_layers) {
    double pairs = 0;
    for (const Sample& s : samples_) {
      for (int64_t l = 0; l < n_layers; ++l) {
        const Pattern pattern = policy.pattern(s.tokens.data(), tokens_, separators, l, n_layers);
        pairs += static_cast<double>(pattern.visible_pairs(tokens_));
      }
    }
    const double causal = static_cast<double>(tokens_) * static_cast<double>(tokens_ + 1) / 2;
    kept_ = pairs / causal / static_cast<double>(static_cast<int64_t>(samples_.size()) * n_layers);
  }

  int64_t tokens_;
  Learner learner_;
  std::vector<Sample> samples_;
  double factor_ = 0, loss_ = 0, kept_ = 0;
  StepTimes times_;
  int64_t steps_ = 0;
};

class BenchTrainCommand : public Command {
 public:
  BenchTrainCommand() {
    run_options_.add_choice("shape", &shape_, shape_names(), "shape of the model, which has random weights");
    run_options_.add(list_option("tokens", &tokens_, 1, kMostTokens, "lengths of the samples"));
    run_options_.add_int("batch", &batch_, 1, 4096,
                         "samples in a step, which go through the model at the same time", "B");
    run_options_.add_flag(
        "activation-checkpointing", &config_.activation_checkpointing,
        "recompute the activations of a layer in the backward pass instead of keeping them");
    run_options_.add_choice("compute", &config_.compute, {"auto", "f32", "bf16"},
                            "precision of matrix products; auto: bf16 where the processor has them");
    run_options_.add_choice(
        "weight-storage", &config_.weight_storage, {"auto", "f32", "bf16"},
        "what matrix products read: the f32 weights, or bf16 copies of them; auto: as compute");
    run_options_.add_choice("activation-storage", &config_.activation_storage, {"auto", "f32", "bf16"},
                            "type in which activations are kept for the backward pass; auto: as compute");
    run_options_.add_int(
        "repeats", &repeats_, 1, 10000,
        "steps after the first two, which do not count; every figure is the median over them");
    run_options_.add_flag("breakdown", &breakdown_,
                          "also print where the time of a step goes, by kind of op");
    declare_threads_option(&run_options_, &common_.threads);
    run_options_.add_flag("json", &common_.json, "print exactly one JSON value on standard output");
  }
  std::string name() const override { return "bench train"; }
  std::string summary() const override {
    return "Measure the speed of whole training steps, compared with the rate of sgemm";
  }
  std::string usage() const override {
    return "--shape NAME [--tokens 1024] [--batch 1] [--threads N] [policy] [--breakdown] [--json]";
  }
  std::vector<OptionGroup> groups() override {
    return {{"Measuring", &run_options_}, {"What attention keeps", &policy_.options}};
  }

  int run() override {
    const ModelSpec spec = checked_spec();
    Comm only_this;
    settle_compute(&config_, {}, only_this);
    Runtime runtime(common_);
    const Context context = runtime.context();
    const InterruptGuard guard;
    Json rows = Json::array();
    {
      Progress progress("measuring", static_cast<int64_t>(tokens_.size()));
      for (const int64_t tokens : tokens_) {
        progress.show(static_cast<int64_t>(rows.size()), fmt::format("{} tokens", tokens));
        const auto row = measure(spec, tokens, context, guard);
        if (!row) break;
        rows.push_back(*row);
      }
    }
    if (rows.size() < tokens_.size()) print_note("interrupted; these are the rows so far");
    if (common_.json) {
      print_json(rows);
    } else {
      print(table(rows, context.pool.size()));
    }
    return 0;
  }

 private:
  ModelSpec checked_spec() {
    if (shape_.empty())
      throw Error(ErrorCode::kInvalidArgument, "no model given", {.expected = "--shape NAME"});
    ModelSpec spec = shape_spec(shape_);
    PolicySettings& settings = policy_.settings;
    finish_policy_options(&policy_.options, &settings, spec.config.policy, shape_);
    settings.policy.validate_layers(spec.config.n_layers, spec.config.own_windows());
    if (settings.policy.has(PolicyKind::kNsa)) add_nsa_gates(&spec, shape_);
    warn_if_without_effect(settings.policy, spec.config, shape_);
    if (settings.policy.streaming()) {
      throw Error(ErrorCode::kInvalidArgument, "models are trained with policies that do not stream",
                  {.place = "--policy",
                   .expected = "full, sep, sink, fixed, moba, sep-moba or nsa",
                   .got = policy_name(settings.policy.kind)});
    }
    for (const int64_t tokens : tokens_) {
      if (settings.policy.uses_separators()) bench::book_separators(settings.separators, tokens * batch_);
      if (spec.config.position != PositionType::kLearned || tokens <= spec.config.max_positions) continue;
      throw Error(
          ErrorCode::kInvalidArgument, "--tokens beyond the shape's learned positions",
          {.expected = fmt::format("at most {}", spec.config.max_positions), .got = std::to_string(tokens)});
    }
    return spec;
  }

  // Nullopt: interrupted.
  std::optional<Json> measure(const ModelSpec& spec, int64_t tokens, const Context& context,
                              const InterruptGuard& guard) const {
    TrainCase one(spec, policy_.settings, config_, tokens, batch_, context.pool);
    one.step();  // during the step after it, memory still gets its final size
    int64_t n_steps = 0;
    bench::Series series[] = {{[&] {
                                if (n_steps++ == 1) one.forget_times();
                                return one.step();
                              }},
                              {[&] { return sgemm_flops(context); }}};
    if (!bench::measure_in_turns(series, repeats_, [&] { return !guard.interrupted(); })) return std::nullopt;
    const double seconds = bench::median(series[0].values), sgemm = bench::median(series[1].values);
    const auto per_step = static_cast<double>(tokens * batch_);
    const Learner::Flops flops = one.flops();
    Json row = {{"shape", shape_},
                {"parameters", one.n_parameters()},
                {"policy", policy_name(policy_.settings.policy.kind)},
                {"policy_settings", policy_json(policy_.settings)},
                {"tokens", tokens},
                {"batch", batch_},
                {"activation_checkpointing", config_.activation_checkpointing},
                {"compute", compute_text(config_)},
                {"weight_storage", config_.weight_storage},
                {"activation_storage", config_.activation_storage},
                {"threads", context.pool.size()},
                {"program", provenance(context.pool.size())},
                {"cpu_info", cpu_name()},
                {"seconds", seconds},
                {"tokens_per_second", per_step / seconds},
                {"kept", one.kept()},
                {"dense_flops", flops.dense},
                {"attention_flops", flops.attention},
                {"sgemm_gflops", sgemm * 1e-9},
                {"gemm_share", flops.dense / seconds / sgemm},
                {"gemm_share_with_attention", (flops.dense + flops.attention) / seconds / sgemm},
                {"peak_bytes", one.bytes()},
                {"loss", one.loss()}};
    if (breakdown_) row["breakdown"] = one.breakdown();
    return row;
  }

  std::string table(const Json& rows, int threads) const {
    if (rows.empty()) return "";
    const Json& first = rows[0];
    std::string out =
        fmt::format("{}, {} parameters, products in {}, batch {}, policy {}, {} thread{}, {}\n", shape_,
                    first["parameters"].get<int64_t>(), first["compute"].get<std::string>(), batch_,
                    first["policy"].get<std::string>(), threads, threads == 1 ? "" : "s",
                    first["cpu_info"].get<std::string>());
    out += fmt::format("{:>8}{:>12}{:>11}{:>8}{:>12}{:>12}{:>10}{:>11}{:>12}\n", "tokens", "s/step",
                       "tokens/s", "kept", "dense TFLOP", "att. TFLOP", "of sgemm", "with att.", "memory");
    const auto number = [](const Json& row, const char* key) { return row[key].get<double>(); };
    for (const Json& row : rows) {
      out += fmt::format("{:>8}{:>12.4f}{:>11.2f}{:>8.4f}{:>12.4f}{:>12.4f}{:>10.3f}{:>11.3f}{:>12}\n",
                         row["tokens"].get<int64_t>(), number(row, "seconds"),
                         number(row, "tokens_per_second"), number(row, "kept"),
                         number(row, "dense_flops") * 1e-12, number(row, "attention_flops") * 1e-12,
                         number(row, "gemm_share"), number(row, "gemm_share_with_attention"),
                         human_bytes(row["peak_bytes"].get<int64_t>()));
    }
    if (!breakdown_) return out;
    for (const Json& row : rows) {
      out += fmt::format("\n{} tokens, mean of a step:\n", row["tokens"].get<int64_t>());
      double all = 0;
      for (const auto& [what, seconds] : row["breakdown"].items()) all += seconds.get<double>();
      for (const auto& [what, seconds] : row["breakdown"].items()) {
        out += fmt::format("{:<22}{:>10.4f} s{:>8.1f} %\n", what, seconds.get<double>(),
                           100 * seconds.get<double>() / all);
      }
    }
    return out;
  }

  OptionSet run_options_;
  PolicyOptions policy_;
  CommonOptions common_;
  std::string shape_;
  TrainConfig config_;  // only what a step depends on: precision, recomputed activations
  std::vector<int64_t> tokens_ = {1024};
  int64_t batch_ = 1, repeats_ = 3;
  bool breakdown_ = false;
};

}  // namespace

std::unique_ptr<Command> make_bench_train_command() { return std::make_unique<BenchTrainCommand>(); }

}  // namespace sepllm
