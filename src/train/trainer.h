// A training run: steps, validation, checkpoints, metrics. It owns no clock, terminal or signal: those come
// as callbacks.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/file.h"
#include "base/line_file.h"
#include "base/thread_pool.h"
#include "train/comm.h"
#include "train/learner.h"
#include "train/metrics.h"
#include "train/spike_guard.h"
#include "train/train_config.h"
#include "train/train_inputs.h"
#include "train/train_plan.h"
#include "train/train_state.h"

namespace sepllm {

class Trainer {
 public:
  struct Callbacks {
    std::function<void(const StepMetrics&)> on_step = [](const StepMetrics&) {};
    std::function<void(const std::string&)> on_note = [](const std::string&) {};  // a line for people
    std::function<bool()> stop = [] { return false; };                            // true: save and return
    std::function<double()> now = [] { return 0.0; };                             // seconds
    // Called with the plan on every rank before any of them takes memory for it; an Error that it throws on
    // one ends all.
    std::function<void(const TrainPlan&)> before_memory = [](const TrainPlan&) {};
    // A text by the model as it is; none: no samples are written.
    std::function<std::string()> sample_text{};
    Json program{};         // which program runs on what, for run.json
    double gemm_flops = 0;  // the machine's rate of products, for gemm_share; 0: not known
  };

  // Opens the data, makes or reads the model, and continues from the newest checkpoint in the run's folder
  // that is whole (one that is not is passed over with a note). Error for whatever is wrong with settings,
  // model, tokenizer or data; nothing is written before that is known. All ranks make one, with the same
  // settings (what differs is `pool` and callbacks); only rank 0 reads and writes the run's folder, and the
  // weights of init_from. Each reads data and tokenizer itself. Where something is wrong on any rank all
  // throw (Comm::run_or_fail_together).
  Trainer(TrainConfig config, ThreadPool& pool, Callbacks callbacks, Comm& comm);
  ~Trainer();

  // Steps until the last one or stop(); saves at both. True: the run is complete.
  bool run();

  int64_t step() const { return state_.step; }
  const TrainConfig& config() const { return config_; }
  const Json& program() const { return callbacks_.program; }
  Learner& learner() { return *learner_; }
  const Tokenizer* tokenizer() const { return inputs_.tokenizer.get(); }
  // In force at the next step (later_policy from its step on); of a complete run: at the last.
  const PolicySettings& policy() const { return later_ ? config_.later_policy : config_.policy; }
  const TrainPlan& plan() const { return plan_; }
  const TrainState& state() const { return state_; }  // after run()
  void validate_before();
  double validate();  // mean loss of the held-out samples; only where there are any
  std::optional<double> last_valid_loss() const { return valid_loss_; }

 private:
  void make_learner();
  void compare_replicas();
  void resume();
  std::unique_ptr<OpenCheckpoint> newest_checkpoint();
  void choose_patterns();
  StepMetrics one_step();
  void write_metrics(const StepMetrics& m);
  void write_sample();
  void write_run_file() const;
  void open_logs();
  double elapsed() const { return elapsed_before_ + callbacks_.now() - begun_; }
  double full_attention_flops() const;
  void fill_state();
  void save();
  void delete_old();

  TrainConfig config_;
  ThreadPool& pool_;
  Callbacks callbacks_;
  Comm& comm_;
  TrainInputs inputs_;
  TrainPlan plan_;
  std::unique_ptr<Learner> learner_;
  TrainState state_;
  std::unique_ptr<FolderLock> lock_;  // of the run's folder
  std::unique_ptr<LineFile> metrics_, samples_;
  SpikeGuard guard_;
  std::optional<int64_t> saved_step_;
  int64_t tokens_ = 0;
  double elapsed_before_ = 0, begun_ = 0;    // seconds of the parts of the run before this one; its begin
  std::optional<double> loss_, valid_loss_;  // of the last step that was taken, of the last validation
  bool later_ = false;                       // later_policy is in force
};

}  // namespace sepllm
