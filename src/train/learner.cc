#include "train/learner.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/error.h"

namespace sepllm {
namespace {

Buffer zeros(int64_t n, const char* what) { return Buffer(n * static_cast<int64_t>(sizeof(float)), what); }

}  // namespace

Learner::Learner(const ModelSpec& spec, ThreadPool& pool)
    : spec_(spec),
      pool_(pool),
      parameters_(spec),
      gradients_(zeros(parameters_.size(), "the gradients")),
      first_moments_(zeros(parameters_.size(), "the moments")),
      second_moments_(zeros(parameters_.size(), "the moments")),
      decoder_(spec.config, parameters_.views()),
      tape_(arena_, pool) {
  parameters_.name_gradients(tape_, gradients_.as<float>());
}

void Learner::clear_gradients() {
  constexpr int64_t kPiece = 64 * 1024;
  const std::span<float> all = gradients();
  const auto n = static_cast<int64_t>(all.size());
  pool_.parallel_for((n + kPiece - 1) / kPiece, [&](int64_t p, int) {
    std::fill_n(all.data() + p * kPiece, std::min(kPiece, n - p * kPiece), 0.0F);
  });
}

Matrix Learner::forward(const Context& ctx, std::span<const Sample> samples) {
  SEPLLM_CHECK(!samples.empty());
  const int64_t n_layers = spec_.config.n_layers;
  const size_t length = samples[0].tokens.size() - 1;
  patterns_of_samples_.clear();
  sequences_.clear();
  // Layers with the same window share a pattern where all do.
  const bool alike = patterns_.policy.layer_window.empty();
  const int64_t per_sample = alike ? 1 : n_layers;
  for (const Sample& s : samples) {
    SEPLLM_CHECK(s.tokens.size() == length + 1);
    for (int64_t l = 0; l < per_sample; ++l) {
      Pattern p = patterns_.policy.pattern(s.tokens.data(), static_cast<int64_t>(length),
                                           patterns_.separators, l, n_layers);
      if (patterns_.document_mask) p.document_starts = s.document_starts;
      patterns_of_samples_.push_back(std::move(p));
    }
  }
  for (size_t k = 0; k < samples.size(); ++k) {
    sequences_.push_back(
        {.tokens = std::span(samples[k].tokens).first(length),
         .patterns = std::span(patterns_of_samples_)
                         .subspan(k * static_cast<size_t>(per_sample), static_cast<size_t>(per_sample))});
  }
  return decoder_.forward(ctx, sequences_, nullptr, replay_layers_);
}

double Learner::accumulate(std::span<const Sample> samples, double factor) {
  const Context ctx{.pool = pool_, .arena = arena_, .tape = &tape_, .times = times_};
  const Arena::Scope scope(arena_);
  std::vector<int32_t> targets;
  for (const Sample& s : samples) targets.insert(targets.end(), s.tokens.begin() + 1, s.tokens.end());
  const std::vector<float> factors(targets.size(), static_cast<float>(factor));
  std::vector<double> nll(targets.size());
  tape_.clear();
  const Matrix hidden = forward(ctx, samples);
  decoder_.loss(ctx, hidden, targets, factors.data(), nll.data());
  tape_.backward(ctx);
  count_flops(samples);
  double sum = 0;
  for (const double x : nll) sum += x;
  return sum;
}

double Learner::evaluate(std::span<const Sample> samples) {
  const Context ctx{.pool = pool_, .arena = arena_};
  const Arena::Scope scope(arena_);
  std::vector<int32_t> targets;
  for (const Sample& s : samples) targets.insert(targets.end(), s.tokens.begin() + 1, s.tokens.end());
  std::vector<double> nll(targets.size());
  const Matrix hidden = forward(ctx, samples);
  decoder_.nll(ctx, hidden, targets, nll.data());
  double sum = 0;
  for (const double x : nll) sum += x;
  return sum;
}

double Learner::gradient_norm() {
  const Context ctx{.pool = pool_, .arena = arena_};
  return std::sqrt(sum_of_squares(ctx, gradients_.as<float>(), parameters_.size()));
}

void Learner::step(const AdamwStep& step) {
  const Context ctx{.pool = pool_, .arena = arena_};
  AdamwStep plain = step;
  plain.weight_decay = 0;
  const auto& list = parameters_.list();
  // Neighbours that decay alike go through as one array (the padding between them stays zero).
  for (size_t begin = 0; begin < list.size();) {
    size_t end = begin + 1;
    while (end < list.size() && list[end].decays == list[begin].decays) ++end;
    const int64_t from = list[begin].offset, to = list[end - 1].offset + list[end - 1].size;
    adamw(ctx, list[begin].decays ? step : plain, to - from, gradients_.as<float>() + from,
          parameters_.data() + from, first_moments_.as<float>() + from, second_moments_.as<float>() + from);
    begin = end;
  }
}

void Learner::count_flops(std::span<const Sample> samples) {
  const ModelConfig& c = spec_.config;
  int64_t matrices = 0;  // elements multiplied for each token
  for (const ParameterInfo& p : parameters_.list()) matrices += p.shape.size() == 2 ? p.size : 0;
  // Embeddings are looked up, not multiplied; a tied one is multiplied as the head.
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
  // Seven products: two forward, five backward (the scores again among them).
  flops_.attention += 14.0 * pairs * static_cast<double>(c.n_heads * c.head_dim);
}

}  // namespace sepllm
