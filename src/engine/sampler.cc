#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/check.h"

namespace sepllm {
namespace {

// -inf and NaN are never chosen.
float usable(float logit) { return std::isnan(logit) ? -INFINITY : logit; }

template <typename Candidate>
bool is_better(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

}  // namespace

void declare_sampling_options(OptionSet* options, SamplingSettings* s) {
  options->add_double("temp", &s->temperature, 0.0, SamplingSettings::kMaxTemperature,
                      "temperature; 0: always the most likely token");
  options->add_int("top-k", &s->top_k, 0, INT32_MAX, "sample from the k most likely tokens; 0: all");
  options->add_double("top-p", &s->top_p, 0.0, 1.0,
                      "sample from the most likely tokens whose probabilities add up to p; 1: all");
  options->add_double(
      "min-p", &s->min_p, 0.0, 1.0,
      "sample from the tokens with at least this share of the most likely token's probability; 0: all");
  options->add_double("repeat-penalty", &s->repeat_penalty, SamplingSettings::kMinPenalty,
                      SamplingSettings::kMaxPenalty, "makes recent tokens less likely; 1: off");
  options->add_int("repeat-last-n", &s->repeat_last_n, SamplingSettings::kWholeContext, INT32_MAX,
                   "number of recent tokens that the repeat penalty applies to; -1: the whole context");
  options->add_int("seed", &s->seed, 0, INT64_MAX, "seed of the sampler");
}

SamplingSettings with_given_sampling(const OptionSet& options, const SamplingSettings& given,
                                     SamplingSettings s) {
  const auto take = [&](const char* name, auto field) {
    if (options.was_set(name)) s.*field = given.*field;
  };
  take("temp", &SamplingSettings::temperature);
  take("top-k", &SamplingSettings::top_k);
  take("top-p", &SamplingSettings::top_p);
  take("min-p", &SamplingSettings::min_p);
  take("seed", &SamplingSettings::seed);
  take("repeat-penalty", &SamplingSettings::repeat_penalty);
  if (options.was_set("repeat-penalty")) s.repeat_last_n = SamplingSettings{}.repeat_last_n;
  take("repeat-last-n", &SamplingSettings::repeat_last_n);
  return s;
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
  chosen_.clear();
}

int32_t Sampler::sample(std::span<const float> logits, std::span<const int32_t> recent) {
  const Candidate best = load(logits, recent);
  const int32_t id = is_certain(best) ? best.id : draw(keep(static_cast<double>(best.logit)));
  if (settings_.presence_penalty != 0.0 || settings_.frequency_penalty != 0.0) ++chosen_[id];
  return id;
}

std::vector<Sampler::Chance> Sampler::chances(std::span<const float> logits,
                                              std::span<const int32_t> recent) {
  const Candidate best = load(logits, recent);
  if (is_certain(best)) return {{best.id, 1.0}};
  const size_t n = keep(static_cast<double>(best.logit));
  double total = 0.0;
  for (size_t k = 0; k < n; ++k) total += weights_[k];
  std::vector<Chance> out;
  for (size_t k = 0; k < n; ++k) {
    if (weights_[k] > 0.0) out.push_back({candidates_[k].id, weights_[k] / total});
  }
  return out;
}

// Fills the candidates with the penalised logits; returns the best of them.
Sampler::Candidate Sampler::load(std::span<const float> logits, std::span<const int32_t> recent) {
  SEPLLM_CHECK(logits.size() == candidates_.size() && !logits.empty());
  for (size_t k = 0; k < logits.size(); ++k) candidates_[k] = {usable(logits[k]), static_cast<int32_t>(k)};
  penalise(logits, recent);
  lower_chosen();
  add_bias();
  return *std::min_element(candidates_.begin(), candidates_.end(),
                           [](const auto& a, const auto& b) { return is_better(a, b); });
}

bool Sampler::is_certain(const Candidate& best) const {
  return settings_.temperature == 0.0 || std::isinf(best.logit);
}

// The logit of a token that is among the last ones is divided by the penalty (multiplied if negative), as in
// HF and CTRL.
void Sampler::penalise(std::span<const float> logits, std::span<const int32_t> recent) {
  if (settings_.repeat_penalty == 1.0) return;
  const size_t n = settings_.repeat_last_n == SamplingSettings::kWholeContext
                       ? recent.size()
                       : std::min(recent.size(), static_cast<size_t>(settings_.repeat_last_n));
  const auto penalty = static_cast<float>(settings_.repeat_penalty);
  for (const int32_t token : recent.subspan(recent.size() - n)) {
    const auto id = static_cast<size_t>(token);
    if (id >= candidates_.size()) continue;
    // Uses the original logit, so that a token that came twice is penalised once.
    const float logit = usable(logits[id]);
    candidates_[id].logit = logit > 0.0F ? logit / penalty : logit * penalty;
  }
}

void Sampler::lower_chosen() {
  for (const auto& [id, n] : chosen_) {
    const double penalty = settings_.presence_penalty + static_cast<double>(n) * settings_.frequency_penalty;
    candidates_[static_cast<size_t>(id)].logit -= static_cast<float>(penalty);
  }
}

void Sampler::add_bias() {
  for (const auto& [id, bias] : settings_.logit_bias) {
    if (id < 0 || static_cast<size_t>(id) >= candidates_.size()) continue;
    candidates_[static_cast<size_t>(id)].logit += static_cast<float>(bias);
  }
}

// Brings the candidates that may be drawn to the front, with their weights; returns their number.
size_t Sampler::keep(double best) {
  const auto better = [](const Candidate& a, const Candidate& b) { return is_better(a, b); };
  const auto begin = candidates_.begin();
  size_t n = candidates_.size();
  if (settings_.top_k > 0 && static_cast<size_t>(settings_.top_k) < n) {
    const auto last = begin + (settings_.top_k - 1);
    std::nth_element(begin, last, candidates_.end(), better);
    const auto end = std::partition(last + 1, candidates_.end(),
                                    [&](const Candidate& c) { return c.logit == last->logit; });
    n = static_cast<size_t>(end - begin);
  }
  if (n < candidates_.size() || settings_.top_p < 1.0)
    std::sort(begin, begin + static_cast<std::ptrdiff_t>(n), better);
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
  for (size_t k = 0; k < n; ++k) {
    if (weights_[k] < settings_.min_p) weights_[k] = 0.0;  // the best has weight 1
  }
  return n;
}

// Draws one of the first n candidates.
int32_t Sampler::draw(size_t n) {
  double allowed = 0.0;
  for (size_t k = 0; k < n; ++k) allowed += weights_[k];
  double at = rng_.uniform(counter_++) * allowed;
  int32_t last = candidates_[0].id;
  for (size_t k = 0; k < n; ++k) {
    if (weights_[k] == 0.0) continue;
    last = candidates_[k].id;
    at -= weights_[k];
    if (at < 0.0) break;
  }
  return last;
}

}  // namespace sepllm
