#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/check.h"

namespace sepllm {
namespace {

// -inf and NaN are never chosen.
float usable(float logit) { return std::isnan(logit) ? -INFINITY : logit; }

}  // namespace

void declare_sampling_options(OptionSet* options, SamplingSettings* s) {
  options->add_double("temp", &s->temperature, 0.0, 1e6, "temperature; 0: always the most likely token");
  options->add_int("top-k", &s->top_k, 0, INT32_MAX, "sample from the k most likely tokens; 0: all");
  options->add_double("top-p", &s->top_p, 0.0, 1.0,
                      "sample from the most likely tokens whose probabilities add up to p; 1: all");
  options->add_double(
      "min-p", &s->min_p, 0.0, 1.0,
      "sample from the tokens with at least this share of the most likely token's probability; 0: all");
  options->add_double("repeat-penalty", &s->repeat_penalty, 0.01, 100.0,
                      "makes recent tokens less likely; 1: off");
  options->add_int("repeat-last-n", &s->repeat_last_n, 0, INT32_MAX,
                   "number of recent tokens that the repeat penalty applies to");
  options->add_int("seed", &s->seed, 0, INT64_MAX, "seed of the sampler");
}

Sampler::Sampler(const SamplingSettings& settings, int64_t vocab_size)
    : settings_(settings), rng_(static_cast<uint64_t>(settings.seed)) {
  candidates_.resize(static_cast<size_t>(vocab_size));
  weights_.resize(candidates_.size());
}

void Sampler::restore(const SamplerState& state) {
  settings_.seed = state.seed;
  rng_ = Rng(static_cast<uint64_t>(state.seed));
  counter_ = state.counter;
}

int32_t Sampler::sample(std::span<const float> logits, std::span<const int32_t> recent) {
  SEPLLM_CHECK(logits.size() == candidates_.size() && !logits.empty());
  for (size_t k = 0; k < logits.size(); ++k) candidates_[k] = {usable(logits[k]), static_cast<int32_t>(k)};
  penalise(logits, recent);
  const auto better = [](const Candidate& a, const Candidate& b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
  };
  if (settings_.temperature == 0.0)
    return std::min_element(candidates_.begin(), candidates_.end(), better)->id;

  size_t n = candidates_.size();
  if (settings_.top_k > 0) n = std::min(n, static_cast<size_t>(settings_.top_k));
  const bool ordered = n < candidates_.size() || settings_.top_p < 1.0;
  if (ordered) {
    std::partial_sort(candidates_.begin(), candidates_.begin() + static_cast<int64_t>(n), candidates_.end(),
                      better);
  }
  double best = -INFINITY;
  for (size_t k = 0; k < n; ++k) best = std::max(best, static_cast<double>(candidates_[k].logit));
  if (std::isinf(best)) return std::min_element(candidates_.begin(), candidates_.end(), better)->id;
  return draw(n, best);
}

// The logit of a token that is among the last ones is divided by the penalty (multiplied if negative), as in
// HF and CTRL.
void Sampler::penalise(std::span<const float> logits, std::span<const int32_t> recent) {
  if (settings_.repeat_penalty == 1.0) return;
  const size_t n = std::min(recent.size(), static_cast<size_t>(settings_.repeat_last_n));
  const auto penalty = static_cast<float>(settings_.repeat_penalty);
  for (const int32_t token : recent.subspan(recent.size() - n)) {
    const auto id = static_cast<size_t>(token);
    if (id >= candidates_.size()) continue;
    // Uses the original logit, so that a token that came twice is penalised once.
    const float logit = usable(logits[id]);
    candidates_[id].logit = logit > 0.0F ? logit / penalty : logit * penalty;
  }
}

// Draws one of the first n candidates (sorted by probability if top-p needs it).
int32_t Sampler::draw(size_t n, double best) {
  double total = 0.0;
  for (size_t k = 0; k < n; ++k) {
    weights_[k] = std::exp((static_cast<double>(candidates_[k].logit) - best) / settings_.temperature);
    total += weights_[k];
  }
  if (settings_.top_p < 1.0) {
    double sum = 0.0;
    size_t kept = 0;
    while (kept < n && (kept == 0 || sum < settings_.top_p * total)) sum += weights_[kept++];
    n = kept;
  }
  double allowed = 0.0;
  const auto passes = [&](double w) { return w >= settings_.min_p; };  // the best has weight 1
  for (size_t k = 0; k < n; ++k) {
    if (passes(weights_[k])) allowed += weights_[k];
  }
  double at = rng_.uniform(counter_++) * allowed;
  int32_t last = candidates_[0].id;
  for (size_t k = 0; k < n; ++k) {
    const double w = weights_[k];
    if (!passes(w) || w == 0.0) continue;
    last = candidates_[k].id;
    at -= w;
    if (at < 0.0) break;
  }
  return last;
}

}  // namespace sepllm
