#include "train/train_plan.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "train/compute.h"

namespace sepllm {
namespace {

// Samples differ in their separators and documents, and so in the memory that attention takes for them.
constexpr int64_t kPassesToSee = 8;

int64_t in_pages(int64_t bytes) {
  constexpr int64_t kLargePage = int64_t{2} << 20;  // the unit in which the system gives large memory
  return (bytes + kLargePage - 1) / kLargePage * kLargePage;
}

void run_passes(int64_t micro, TokenData& data, Learner* learner, int64_t n) {
  std::vector<Sample> samples(static_cast<size_t>(micro));
  for (int64_t k = 0; k < n; ++k) {
    for (Sample& s : samples) data.next(&s);
    learner->accumulate(samples, 1.0);
  }
}

}  // namespace

TrainPlan plan_training(const TrainConfig& config, const TrainInputs& inputs, int n_threads, int n_ranks) {
  ThreadPool idle(ThreadPool::Idle{n_threads});
  Learner learner(inputs.spec, idle, nullptr, Memory::kAddresses);
  learner.set_replay_layers(config.activation_checkpointing);
  apply_compute(config, &learner);
  TokenData& data = *inputs.data;
  const TokenData::Position position = data.position();
  const int64_t on_rank = (config.global_batch_size + n_ranks - 1) / n_ranks;
  const int64_t micro = std::min(config.micro_batch_size, on_rank);
  const int64_t passes = std::min(kPassesToSee, on_rank / micro * config.train_steps);
  learner.set_patterns(inputs.patterns(config, config.policy));
  run_passes(micro, data, &learner, passes);
  const Learner::Flops flops = learner.flops();
  if (config.later_policy_step > 0) {
    learner.set_patterns(inputs.patterns(config, config.later_policy));
    run_passes(micro, data, &learner, passes);
  }
  data.set_position(position);

  TrainPlan plan;
  const int64_t bytes = learner.parameters().size() * static_cast<int64_t>(sizeof(float));
  plan.parameters = learner.parameters().count();
  plan.weights = learner.parameters().storage_bytes();
  plan.gradients = bytes;
  plan.moments = 2 * bytes / n_ranks;
  plan.pass = learner.pass_bytes();
  plan.pass_total = in_pages(plan.pass.arena) + in_pages(plan.pass.workspace);
  plan.tokens_per_step = config.global_batch_size * config.seq_length;
  const auto samples = static_cast<double>(passes * micro);
  const double steps = samples / static_cast<double>(config.global_batch_size);
  plan.dense_flops = flops.dense / steps;
  plan.attention_flops = flops.attention / steps;
  plan.visible_share = flops.attention / (samples * learner.full_attention_flops(config.seq_length));
  plan.epochs = static_cast<double>(config.train_steps) * static_cast<double>(config.global_batch_size) /
                static_cast<double>(data.n_samples());
  return plan;
}

}  // namespace sepllm
