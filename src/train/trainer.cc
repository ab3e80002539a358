#include "train/trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"
#include "train/compute.h"
#include "train/new_model.h"
#include "train/replica_check.h"
#include "train/run_files.h"
#include "train/same_run.h"

namespace sepllm {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMostNotFinite = 20;

[[noreturn]] void refuse_numbers(int64_t step) {
  throw Error(
      ErrorCode::kOutOfRange,
      fmt::format("the loss or its gradient was not finite in the last {} steps (up to step {}): none of "
                  "them was applied",
                  kMostNotFinite, step),
      {.hint = "try a smaller lr, or start from weights without NaN; saved checkpoints are kept"});
}

void make_folder(const std::string& path) {
  std::error_code code;
  fs::create_directories(path, code);
  if (code) throw Error(ErrorCode::kIo, "cannot make the folder: " + code.message(), {.file = path});
}

}  // namespace

Trainer::Trainer(TrainConfig config, ThreadPool& pool, Callbacks callbacks, Comm& comm)
    : config_(std::move(config)),
      pool_(pool),
      callbacks_(std::move(callbacks)),
      comm_(comm),
      inputs_(open_train_inputs(config_, comm_)),
      guard_(config_.spike_z) {
  comm_.run_or_fail_together([this] {
    plan_ = plan_training(config_, inputs_, pool_.size(), comm_.size());
    callbacks_.before_memory(plan_);
  });
  comm_.run_or_fail_together([this] {
    make_learner();
    choose_patterns();
    if (!comm_.is_root()) return;
    make_folder(config_.save);
    lock_ = std::make_unique<FolderLock>(config_.save);
    remove_leftovers(config_.save);
  });
  compare_replicas();
  resume();
  comm_.broadcast({learner_->parameters().data(), static_cast<size_t>(learner_->parameters().size())});
  choose_patterns();
  comm_.run_or_fail_together([this] {
    if (!comm_.is_root()) return;
    write_run_file();
    open_logs();
  });
}

Trainer::~Trainer() = default;

void Trainer::make_learner() {
  learner_ = std::make_unique<Learner>(inputs_.spec, pool_, &comm_);
  learner_->reserve(plan_.pass);
  learner_->set_replay_layers(config_.activation_checkpointing);
  apply_compute(config_, learner_.get());
  state_.model_config = inputs_.model_config;
  state_.data_fingerprint = inputs_.data->fingerprint();
  if (!comm_.is_root()) return;  // the other ranks get rank 0's parameters
  if (config_.init_from.empty()) {
    initialise(&learner_->parameters(), inputs_.spec, config_.init, static_cast<uint64_t>(config_.seed));
  } else {
    learner_->parameters().load(config_.init_from, inputs_.spec);
  }
}

void Trainer::compare_replicas() {
  if (comm_.size() == 1) return;
  comm_.set_activity("reading its data to compare it");
  ReplicaFacts facts;
  const auto add_files = [&](const std::vector<TokenSource>& sources, const TokenData& data) {
    const std::vector<uint64_t> hashes = data.content_hashes();
    for (size_t f = 0; f < sources.size(); ++f)
      facts.emplace_back("the token file " + sources[f].prefix, hex64(hashes[f]));
  };
  comm_.run_or_fail_together([&] {
    facts.emplace_back("the program's version", SEPLLM_VERSION);
    facts.emplace_back("the tokenizer", tokenizer_hash(*inputs_.tokenizer));
    add_files(config_.data, *inputs_.data);
    if (!config_.valid_data.empty()) add_files(config_.valid_data, *inputs_.valid);
  });
  check_replicas(comm_, facts);
}

void Trainer::choose_patterns() {
  later_ = config_.later_policy_step > 0 && state_.step + 1 >= config_.later_policy_step;
  learner_->set_patterns(inputs_.patterns(config_, policy()));
}

// The newest intact checkpoint, or null.
std::unique_ptr<OpenCheckpoint> Trainer::newest_checkpoint() {
  std::vector<int64_t> steps = checkpoint_steps(config_.save);
  for (; !steps.empty(); steps.pop_back()) {
    const std::string path = checkpoint_path(config_.save, steps.back());
    try {
      auto found = std::make_unique<OpenCheckpoint>(path, *learner_, [&](const TrainState& state) {
        check_same_run(state, config_, inputs_.data->fingerprint(), path);
      });
      callbacks_.on_note(fmt::format("continuing after step {} of {}", found->state().step, path));
      return found;
    } catch (const Error& e) {
      // A file of another run or another version did not get here by accident: continuing without it would
      // bury it.
      const bool other = e.code() == ErrorCode::kInvalidArgument || e.code() == ErrorCode::kUnsupported;
      if (steps.size() == 1 || other) throw;
      callbacks_.on_note(fmt::format("skipped: {}", e.marked_text()));
    }
  }
  return nullptr;
}

void Trainer::resume() {
  comm_.set_activity("reading the last checkpoint");
  std::unique_ptr<OpenCheckpoint> found;
  comm_.run_or_fail_together([&] {
    if (comm_.is_root()) found = newest_checkpoint();
  });
  const std::string header = comm_.broadcast(found ? json_text(found->header()) : "");
  if (!header.empty()) {
    TrainState state =
        parse_checkpoint_header(parse_json(header, "the checkpoint of rank 0"), "the checkpoint of rank 0");
    load_checkpoint(found.get(), learner_.get());
    inputs_.data->set_position(state.position);
    const JsonObject progress(state.progress, checkpoint_path(config_.save, state.step), "progress");
    guard_.set_state(progress.object("guard"));
    tokens_ = progress.integer("tokens", 0, INT64_MAX);
    learner_->set_flops({progress.number("dense_flops"), progress.number("attention_flops")});
    elapsed_before_ = progress.number_or("elapsed", 0);
    // null in the file means NaN.
    if (state.progress.contains("loss")) loss_ = progress.number_or("loss", NAN);
    if (state.progress.contains("valid_loss")) valid_loss_ = progress.number_or("valid_loss", NAN);
    note_other_products(state);
    state.model_config = state_.model_config;
    state_ = std::move(state);
    saved_step_ = state_.step;
  }
}

// The same steps on another processor, or with other products, have other bits.
void Trainer::note_other_products(const TrainState& state) const {
  const JsonObject progress(state.progress, checkpoint_path(config_.save, state.step), "progress");
  const std::string before = progress.string_or("products", "f32"), now = compute_text(config_);
  if (before != now && comm_.is_root())
    callbacks_.on_note(fmt::format(
        "the checkpoint was made with products in {}, this run continues in {}: its results are not the same "
        "bits as those of an uninterrupted run",
        before, now));
}

// Writes run.json: what the run is, for those who read the folder.
void Trainer::write_run_file() const {
  const Json facts = {{"parameters", learner_->parameters().count()},
                      {"program", callbacks_.program},
                      {"settings", train_config_json(config_)}};
  write_file_atomically(facts_path(config_.save), json_text(facts, 1) + "\n");
}

// Opens the logs to continue after the lines of the steps that are done; lines of steps that will be repeated
// are cut.
void Trainer::open_logs() {
  const auto open = [this](const std::string& path) {
    const int64_t keep = bytes_of_lines(path, [this](const std::string& line) {
      const Json json = json_or_null(line);
      return state_.step > 0 && json.is_object() && json.contains("step") &&
             json["step"].is_number_integer() && json["step"].get<int64_t>() <= state_.step;
    });
    return std::make_unique<LineFile>(path, keep);
  };
  metrics_ = open(metrics_path(config_.save));
  const std::string samples = samples_path(config_.save);
  if (config_.sample_interval > 0 || file_exists(samples)) samples_ = open(samples);
}

// FLOPs of one step if nothing were hidden (full attention).
double Trainer::full_attention_flops() const {
  return static_cast<double>(config_.global_batch_size) * learner_->full_attention_flops(config_.seq_length);
}

StepMetrics Trainer::one_step() {
  StepMetrics m;
  const double start = callbacks_.now(), waited = comm_.seconds_waited();
  const Learner::Flops before = learner_->flops();
  const int64_t batch = config_.global_batch_size, micro = config_.micro_batch_size;
  const double factor = 1.0 / static_cast<double>(batch * config_.seq_length);
  // The step's samples are numbered [0, batch), in the same order on every rank; this rank computes those in
  // `own`, and skips the others before and after, so that the position in the data stays the same everywhere.
  const Part own = share_of(batch, comm_.rank(), comm_.size());
  learner_->set_flops({});
  learner_->clear_gradients();
  for (int64_t i = 0; i < own.begin; ++i) inputs_.data->skip();
  // Forward and backward passes over at most `micro` samples at a time; their gradients add up. `factor`
  // makes the sum over all tokens of the step a mean.
  std::vector<Sample> samples;
  double sum = 0;
  for (int64_t done = 0; done < own.n; done += static_cast<int64_t>(samples.size())) {
    samples.resize(static_cast<size_t>(std::min(micro, own.n - done)));
    comm_.set_activity("reading the data of step", state_.step + 1);
    for (Sample& s : samples) inputs_.data->next(&s);
    comm_.set_activity("computing step", state_.step + 1);
    sum += learner_->accumulate(samples, factor, done + static_cast<int64_t>(samples.size()) == own.n);
  }
  for (int64_t i = own.begin + own.n; i < batch; ++i) inputs_.data->skip();
  // Sums over the ranks: gradients (inside gradient_norm()), loss and FLOPs.
  m.step = ++state_.step;
  m.gradient_norm = learner_->gradient_norm();
  double sums[] = {sum, learner_->flops().dense, learner_->flops().attention,
                   comm_.size() > 1 && callbacks_.stop() ? 1.0 : 0.0};
  comm_.sum(sums);
  stop_seen_ = sums[3] > 0;
  m.loss = sums[0] * factor;
  learner_->set_flops({before.dense + sums[1], before.attention + sums[2]});
  // The update, unless the step is a spike. Gradients are scaled down to a norm of clip_grad.
  m.lr = config_.schedule().at(m.step);
  m.skipped = !guard_.accept(m.loss, m.gradient_norm);
  if (!m.skipped) {
    loss_ = m.loss;
    const double clip = config_.clip_grad;
    const double scale = clip > 0 && m.gradient_norm > clip ? clip / (m.gradient_norm + 1e-6) : 1.0;
    learner_->step({.lr = static_cast<float>(m.lr),
                    .beta1 = static_cast<float>(config_.beta1),
                    .beta2 = static_cast<float>(config_.beta2),
                    .eps = static_cast<float>(config_.eps),
                    .weight_decay = static_cast<float>(config_.weight_decay),
                    .gradient_scale = static_cast<float>(scale),
                    .step = m.step});
  }
  // What the step was and what it cost: totals since the run began, rates of this step.
  tokens_ += batch * config_.seq_length;
  m.tokens = tokens_;
  m.dense_flops = learner_->flops().dense;
  m.attention_flops = learner_->flops().attention;
  m.visible_share = (m.attention_flops - before.attention) / full_attention_flops();
  m.seconds = callbacks_.now() - start;
  if (callbacks_.gemm_flops > 0 && m.seconds > 0)
    m.gemm_share = (m.dense_flops - before.dense) / m.seconds / callbacks_.gemm_flops;
  if (comm_.size() > 1) {
    m.ranks = comm_.size();
    m.waited = comm_.seconds_waited() - waited;
  }
  return m;
}

double Trainer::validate() {
  comm_.set_activity(state_.step > 0 ? "validating after step" : "validating before the first step",
                     state_.step);
  inputs_.valid->set_position(TokenData::Position(inputs_.valid->position().size(), 0));
  const int64_t n = std::min(config_.eval_samples, inputs_.valid->n_samples());
  const Part own = share_of(n, comm_.rank(), comm_.size());
  for (int64_t i = 0; i < own.begin; ++i) inputs_.valid->skip();
  std::vector<Sample> samples;
  double sum = 0;
  for (int64_t done = 0; done < own.n;) {
    samples.resize(static_cast<size_t>(std::min(config_.micro_batch_size, own.n - done)));
    for (Sample& s : samples) inputs_.valid->next(&s);
    sum += learner_->evaluate(samples);
    done += static_cast<int64_t>(samples.size());
  }
  comm_.sum({&sum, 1});
  return sum / static_cast<double>(n * config_.seq_length);
}

void Trainer::write_metrics(const StepMetrics& m) {
  if (!comm_.is_root()) return;
  comm_.set_activity("writing the metrics of step", state_.step);
  metrics_->write(json_text(metrics_json(m)) + "\n");
  metrics_->flush();
}

void Trainer::write_sample() {
  learner_->complete_parameters();  // on all ranks
  if (!comm_.is_root() || !callbacks_.sample_text) return;
  comm_.set_activity("writing a sample of text after step", state_.step);
  const Json line = {{"step", state_.step}, {"text", callbacks_.sample_text()}};
  samples_->write(json_text(line) + "\n");
  samples_->flush();
}

void Trainer::fill_state() {
  state_.position = inputs_.data->position();
  state_.settings = train_config_json(config_);
  state_.progress = {{"guard", guard_.state()},
                     {"tokens", tokens_},
                     {"elapsed", elapsed()},
                     {"products", compute_text(config_)},
                     {"dense_flops", learner_->flops().dense},
                     {"attention_flops", learner_->flops().attention}};
  if (loss_) state_.progress["loss"] = *loss_;
  if (valid_loss_) state_.progress["valid_loss"] = *valid_loss_;
}

void Trainer::save() {
  fill_state();
  comm_.set_activity("saving the checkpoint of step", state_.step);
  const std::string path = checkpoint_path(config_.save, state_.step);
  if (comm_.is_root()) {
    metrics_->sync();
    if (samples_) samples_->sync();
  }
  save_checkpoint(path, state_, *learner_);
  saved_step_ = state_.step;
  if (!comm_.is_root()) return;
  read_checkpoint_state(path);  // now it is certainly intact, so older ones may be deleted
  delete_old();
}

void Trainer::delete_old() {
  std::vector<int64_t> steps = checkpoint_steps(config_.save);
  // Later checkpoints are damaged and were skipped: they do not count.
  std::erase_if(steps, [this](int64_t step) { return step > state_.step; });
  const auto last = static_cast<size_t>(config_.keep_last);
  for (size_t i = 0; i + last < steps.size(); ++i) {
    const bool marked = config_.keep_every > 0 && steps[i] % config_.keep_every == 0;
    std::error_code ignored;
    if (!marked) fs::remove(checkpoint_path(config_.save, steps[i]), ignored);
  }
}

// For a model that is trained further, maybe under another policy: its loss before any training.
void Trainer::validate_before() {
  if (state_.step > 0 || !inputs_.valid || config_.init_from.empty()) return;
  StepMetrics m{.loss = NAN, .lr = NAN, .gradient_norm = NAN, .visible_share = NAN};
  m.valid_loss = valid_loss_ = validate();
  m.elapsed = elapsed();
  write_metrics(m);
  callbacks_.on_note(fmt::format("before the first step: held-out loss {:.4f}", *valid_loss_));
}

bool Trainer::run() {
  begun_ = callbacks_.now();
  validate_before();
  bool asks = true;
  while (state_.step < config_.train_steps) {
    // To ask all ranks would wait until the new weights are everywhere. Where they are still on their way,
    // what the step has found counts.
    if (asks ? comm_.any(callbacks_.stop()) : stop_seen_) {
      if (saved_step_ != state_.step) save();
      return false;
    }
    const bool later = config_.later_policy_step > 0 && state_.step + 1 >= config_.later_policy_step;
    if (later != later_) choose_patterns();
    StepMetrics m = one_step();
    const bool last = m.step == config_.train_steps;
    if (inputs_.valid && (last || m.step % config_.eval_interval == 0))
      m.valid_loss = valid_loss_ = validate();
    m.elapsed = elapsed();
    if (last || m.step % config_.log_interval == 0 || m.skipped || m.valid_loss) write_metrics(m);
    if (m.skipped)
      callbacks_.on_note(
          fmt::format("step {} skipped: loss {:.4f}, gradient norm {:.3g}", m.step, m.loss, m.gradient_norm));
    callbacks_.on_step(m);
    const bool samples = config_.sample_interval > 0 && (last || m.step % config_.sample_interval == 0);
    if (samples) write_sample();
    if (guard_.not_finite_in_a_row() >= kMostNotFinite) refuse_numbers(m.step);
    const bool saves = last || m.step % config_.save_interval == 0;
    if (saves) save();
    asks = comm_.size() == 1 || m.skipped || m.valid_loss || samples || saves;
  }
  if (saved_step_ != state_.step) save();
  fill_state();  // with the current settings
  return true;
}

}  // namespace sepllm
