#include "train/learner.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/error.h"
#include "ops/ops.h"

namespace sepllm {
namespace {

Buffer floats(int64_t n, const char* what, Memory memory) {
  return Buffer(n * static_cast<int64_t>(sizeof(float)), what, memory);
}

// Seven products: two forward and five backward (the scores are computed again in the backward pass).
double attention_flops(const ModelConfig& c, double visible_pairs) {
  return 14.0 * visible_pairs * static_cast<double>(c.n_heads * c.head_dim);
}

}  // namespace

Learner::Learner(const ModelSpec& spec, ThreadPool& pool, Comm* comm, Memory memory)
    : spec_(spec),
      pool_(pool),
      comm_(comm != nullptr ? *comm : alone_),
      parameters_(spec, memory),
      shards_(make_shards(parameters_.size(), comm_.rank(), comm_.size())),
      layer_begins_(parameters_.layer_begins()),
      gradients_(floats(parameters_.size(), "the gradients", memory)),
      first_moments_(floats(state_size(shards_), "the moments", memory)),
      second_moments_(floats(state_size(shards_), "the moments", memory)),
      decoder_(std::in_place, spec.config, parameters_.views()),
      arena_(memory == Memory::kZeros ? Memory::kAnything : memory),
      workspace_(memory == Memory::kZeros ? Memory::kAnything : memory),
      tape_(arena_, pool) {
  parameters_.name_gradients(tape_, gradients_.as<float>());
  // While the forward pass computes a layer, values of later ones arrive.
  tape_.set_before_layer([this](int64_t l) {
    const auto next = static_cast<size_t>(l) + 1;
    complete_parameters(next < layer_begins_.size() ? layer_begins_[next] : parameters_.size());
  });
}

Learner::~Learner() {
  try {
    comm_.wait();  // messages read and write the buffers
  } catch (const std::exception&) {
    return;  // the ranks have failed: nothing moves any more
  }
}

void Learner::set_activation_storage(DType type) {
  SEPLLM_CHECK(type == DType::kF32 || type == DType::kBF16);
  tape_.set_packing(ops::bf16_packing(), type == DType::kF32 ? nullptr : &workspace_);
}

void Learner::set_weight_storage(DType type) {
  parameters_.set_storage(type);
  decoder_.emplace(spec_.config, parameters_.views());
  parameters_.name_gradients(tape_, gradients_.as<float>());
}

void Learner::reserve(const PassBytes& bytes) {
  // Samples with more separators than any that the plan has seen take a little more; memory that is never
  // touched costs only addresses.
  arena_.reserve(bytes.arena + bytes.arena / 16);
  workspace_.reserve(bytes.workspace);
}

void Learner::clear_gradients() {
  n_kept_ = shards_.size();
  constexpr int64_t kPiece = 64 * 1024;
  const std::span<float> all = gradients();
  const auto n = static_cast<int64_t>(all.size());
  pool_.parallel_for((n + kPiece - 1) / kPiece, [&](int64_t p, int) {
    std::fill_n(all.data() + p * kPiece, std::min(kPiece, n - p * kPiece), 0.0F);
  });
}

Matrix Learner::forward(const Context& ctx, std::span<const Sample> samples) {
  SEPLLM_CHECK(!samples.empty());
  complete_parameters(ctx.tape != nullptr ? layer_begins_.front() : parameters_.size());
  const int64_t n_layers = spec_.config.n_layers;
  const size_t length = samples[0].tokens.size() - 1;
  patterns_of_samples_.clear();
  sequences_.clear();
  // Layers of the same rule share a pattern where all do.
  const auto rule_of = [&](int64_t l) {
    return patterns_.policy.rule(l, n_layers, spec_.config.layer(l).window);
  };
  int64_t per_sample = 1;
  for (int64_t l = 1; l < n_layers && per_sample == 1; ++l) {
    if (rule_of(l) != rule_of(0)) per_sample = n_layers;
  }
  for (const Sample& s : samples) {
    SEPLLM_CHECK(s.tokens.size() == length + 1);
    for (int64_t l = 0; l < per_sample; ++l) {
      patterns_of_samples_.push_back(
          rule_of(l).pattern(s.tokens.data(), static_cast<int64_t>(length), patterns_.separators,
                             patterns_.document_mask ? s.document_starts : std::vector<int64_t>{}));
    }
  }
  // The samples as one batch: [samples * length] rows, each sample attending only to itself.
  for (size_t k = 0; k < samples.size(); ++k) {
    sequences_.push_back(
        {.tokens = std::span(samples[k].tokens).first(length),
         .patterns = std::span(patterns_of_samples_)
                         .subspan(k * static_cast<size_t>(per_sample), static_cast<size_t>(per_sample))});
  }
  // Hidden states [samples * length, hidden_size]; with a tape in ctx, also what the backward pass needs.
  return decoder_->forward(ctx, sequences_, nullptr, replay_layers_);
}

double Learner::accumulate(std::span<const Sample> samples, double factor, bool last) {
  const Context ctx{
      .pool = pool_, .arena = arena_, .float_products = float_products_, .tape = &tape_, .times = times_};
  const Arena::Scope scope(arena_);
  // Row r of the batch predicts targets[r]: the sample's tokens, shifted by one.
  std::vector<int32_t> targets;
  for (const Sample& s : samples) targets.insert(targets.end(), s.tokens.begin() + 1, s.tokens.end());
  const std::vector<float> factors(targets.size(), static_cast<float>(factor));
  std::vector<double> nll(targets.size());
  tape_.clear();
  // After the last samples of a step, gradients are final as soon as the backward pass has left a layer, and
  // are sent while it continues to the first layer.
  if (last && comm_.size() > 1)
    tape_.set_on_layer([this](int64_t l) { set_gradients_out(layer_begins_[static_cast<size_t>(l)]); });
  else
    tape_.set_on_layer({});
  // Forward pass, loss, backward pass. Each part notes how much of the arena it takes.
  arena_.reset_peak();
  const Matrix hidden = forward(ctx, samples);
  const int64_t activations = arena_.allocated_bytes();
  pass_bytes_.arena = std::max(pass_bytes_.arena, arena_.peak_bytes());
  arena_.reset_peak();
  decoder_->loss(ctx, hidden, targets, factors.data(), nll.data());
  const int64_t loss = arena_.peak_bytes();
  arena_.reset_peak();
  tape_.backward(ctx);
  count_bytes(activations, loss, arena_.peak_bytes());
  count_flops(samples);
  double sum = 0;
  for (const double x : nll) sum += x;
  return sum;
}

double Learner::evaluate(std::span<const Sample> samples) {
  const Context ctx{.pool = pool_, .arena = arena_, .float_products = float_products_};
  const Arena::Scope scope(arena_);
  std::vector<int32_t> targets;
  for (const Sample& s : samples) targets.insert(targets.end(), s.tokens.begin() + 1, s.tokens.end());
  std::vector<double> nll(targets.size());
  arena_.reset_peak();
  const Matrix hidden = forward(ctx, samples);
  decoder_->nll(ctx, hidden, targets, nll.data());
  pass_bytes_.arena = std::max(pass_bytes_.arena, arena_.peak_bytes());
  double sum = 0;
  for (const double x : nll) sum += x;
  return sum;
}

// Sends the last buckets first, in the order in which the backward pass finishes them.
void Learner::set_gradients_out(int64_t from) {
  for (; n_kept_ > 0 && shards_[n_kept_ - 1].bucket.begin >= from; --n_kept_) {
    const Part& b = shards_[n_kept_ - 1].bucket;
    comm_.start_reduce_scatter({gradients_.as<float>() + b.begin, static_cast<size_t>(b.n)});
  }
}

double Learner::gradient_norm() {
  const Context ctx{.pool = pool_, .arena = arena_};
  // Sends the buckets that are still here. Then each rank has the summed gradients of its own parts.
  set_gradients_out(0);
  comm_.wait();
  double squares = 0;
  for (const Shard& s : shards_)
    squares += sum_of_squares(ctx, gradients_.as<float>() + s.own.begin, s.own.n);
  comm_.sum({&squares, 1});
  return std::sqrt(squares);
}

void Learner::step(const AdamwStep& step) {
  const Context ctx{.pool = pool_, .arena = arena_};
  // Vectors (norms, biases) do not decay.
  AdamwStep plain = step;
  plain.weight_decay = 0;
  const auto& list = parameters_.list();
  auto p = list.begin();
  complete_parameters();
  float* const values = parameters_.data();
  gathers_.clear();
  n_complete_ = 0;
  for (const Shard& s : shards_) {
    // This rank updates elements [own.begin, end) of each bucket. p: the first tensor that reaches into them.
    const int64_t end = s.own.begin + s.own.n;
    while (p->offset + p->size <= s.own.begin && p + 1 != list.end()) ++p;
    for (auto q = p; q != list.end() && q->offset < end;) {
      // Consecutive tensors with the same decay are updated as one array (the padding between them stays
      // zero).
      auto next = q + 1;
      while (next != list.end() && next->decays == q->decays) ++next;
      const int64_t from = std::max(q->offset, s.own.begin),
                    to = std::min((next - 1)->offset + (next - 1)->size, end),
                    state = s.state_begin + from - s.own.begin;
      // Elements [from, to) of parameters and gradients have their moments from `state` on.
      if (to > from) {
        adamw(ctx, q->decays ? step : plain, to - from, gradients_.as<float>() + from, values + from,
              first_moments_.as<float>() + state, second_moments_.as<float>() + state);
      }
      q = next;
    }
    // The other ranks get the updated part while the next bucket is computed, and later ones while the next
    // forward pass computes the first layers, in the order in which it needs them.
    gathers_.push_back(comm_.start_all_gather({values + s.bucket.begin, static_cast<size_t>(s.bucket.n)}));
  }
  if (comm_.size() == 1) complete_parameters();
}

// Waits for the buckets that reach below `end`, and rounds the values to the bf16 copies.
void Learner::complete_parameters(int64_t end) {
  size_t n = n_complete_;
  while (n < gathers_.size() && shards_[n].bucket.begin < end) ++n;
  if (n > n_complete_) comm_.wait_until(gathers_[n - 1]);
  n_complete_ = n;
  parameters_.refresh(pool_, end);
}

void Learner::gather_moments(Moment which, const std::function<void(std::span<const float>)>& take) {
  const float* own = moments(which).as<float>();
  std::vector<float> whole;
  for (const Shard& s : shards_) {
    const auto n = static_cast<size_t>(s.bucket.n);
    if (comm_.size() == 1) {
      take({own + s.state_begin, n});
      continue;
    }
    if (comm_.is_root()) whole.resize(n);
    comm_.gather(s.bucket.n, own + s.state_begin, whole.data());
    if (comm_.is_root()) take(whole);
  }
}

void Learner::scatter_moments(Moment which, const std::function<void(std::span<float>)>& give) {
  float* own = moments(which).as<float>();
  std::vector<float> whole;
  for (const Shard& s : shards_) {
    const auto n = static_cast<size_t>(s.bucket.n);
    if (comm_.size() == 1) {
      give({own + s.state_begin, n});
      continue;
    }
    if (comm_.is_root()) {
      whole.resize(n);
      give(whole);
    }
    comm_.scatter(s.bucket.n, whole.data(), own + s.state_begin);
  }
}

// Records bytes of the arena: after the forward pass, and the peak during the loss and during the backward
// pass.
void Learner::count_bytes(int64_t activations, int64_t loss, int64_t backward) {
  const auto at_least = [](int64_t* most, int64_t bytes) { *most = std::max(*most, bytes); };
  const int64_t gradients = tape_.peak_gradient_bytes();
  at_least(&pass_bytes_.activations, activations);
  at_least(&pass_bytes_.loss, loss - activations);
  at_least(&pass_bytes_.activation_gradients, gradients);
  at_least(&pass_bytes_.backward, backward - activations - gradients);
  at_least(&pass_bytes_.arena, std::max(loss, backward));
  at_least(&pass_bytes_.workspace, workspace_.peak_bytes());
}

void Learner::count_flops(std::span<const Sample> samples) {
  const ModelConfig& c = spec_.config;
  int64_t matrices = 0;  // matrix elements that are multiplied for each token
  for (const ParameterInfo& p : parameters_.list()) matrices += p.shape.size() == 2 ? p.size : 0;
  // Embeddings are looked up, not multiplied; a tied embedding is multiplied as the head.
  if (!c.tied_embeddings) matrices -= c.vocab_size * c.hidden_size;
  if (c.position == PositionType::kLearned) matrices -= c.max_positions * c.hidden_size;
  double pairs = 0;
  const size_t per_sample = patterns_of_samples_.size() / samples.size();
  for (const Pattern& p : patterns_of_samples_) {
    const auto length = static_cast<int64_t>(samples[0].tokens.size()) - 1;
    pairs += static_cast<double>(p.visible_pairs(length)) *
             (per_sample == 1 ? static_cast<double>(c.n_layers) : 1.0);
  }
  const auto tokens = static_cast<double>(samples.size() * (samples[0].tokens.size() - 1));
  flops_.dense += 6.0 * static_cast<double>(matrices) * tokens;
  flops_.attention += attention_flops(c, pairs);
}

double Learner::full_attention_flops(int64_t length) const {
  const ModelConfig& c = spec_.config;
  const auto n = static_cast<double>(length);
  return attention_flops(c, n * (n + 1) / 2 * static_cast<double>(c.n_layers));
}

}  // namespace sepllm
