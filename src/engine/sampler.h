// Chooses the next token from logits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/options.h"
#include "base/rng.h"

namespace sepllm {

// The order is that of transformers: repeat penalty, then OpenAI's penalties and biases, temperature, top-k,
// top-p, min-p.
struct SamplingSettings {
  static constexpr int64_t kWholeContext = -1;  // of repeat_last_n: the prompt and all that came before it
  static constexpr double kMaxTemperature = 1e6;
  static constexpr double kMinPenalty = 0.01, kMaxPenalty = 100.0;

  double temperature = 0.0;  // 0: greedy
  int64_t top_k = 0;         // 0: off; tokens as likely as the k-th are kept, too
  double top_p = 1.0;        // 1: off
  double min_p = 0.0;        // 0: off; keeps p >= min_p * max p
  // For the last repeat_last_n tokens, logits > 0 are divided by it, others multiplied; 1: off.
  double repeat_penalty = 1.0;
  int64_t repeat_last_n = 64;
  // OpenAI's: of a token that this sampler has chosen n > 0 times, the logit is lowered by presence_penalty +
  // n * frequency_penalty. 0: off.
  double presence_penalty = 0.0, frequency_penalty = 0.0;
  // Added to the logits of these tokens; ids outside the vocabulary have no effect.
  std::vector<std::pair<int32_t, double>> logit_bias{};
  int64_t seed = 0;
};

// Declares --temp --top-k --top-p --min-p --repeat-penalty --repeat-last-n --seed with their ranges.
void declare_sampling_options(OptionSet* options, SamplingSettings* settings);
// `defaults`, with those settings replaced that were given as options; `given`: what the options were
// declared for. A penalty that was given without repeat_last_n has the option's default for it.
SamplingSettings with_given_sampling(const OptionSet& options, const SamplingSettings& given,
                                     SamplingSettings defaults);

// The state of a sampler's random numbers: from the same state it draws the same.
struct SamplerState {
  int64_t seed = 0;
  uint64_t counter = 0;
};

class Sampler {
 public:
  Sampler(const SamplingSettings& settings, int64_t vocab_size);
  // `recent`: the tokens so far, for the repeat penalty. Of equal logits the smallest id wins. The n-th call
  // draws with counter n.
  int32_t sample(std::span<const float> logits, std::span<const int32_t> recent);
  // The tokens that sample() may choose, with their probabilities, which add up to 1.
  struct Chance {
    int32_t id;
    double probability;
  };
  std::vector<Chance> chances(std::span<const float> logits, std::span<const int32_t> recent);
  // The number of last tokens that `recent` must hold; kWholeContext: every token that occurred.
  int64_t recent_tokens() const { return settings_.repeat_penalty == 1.0 ? 0 : settings_.repeat_last_n; }
  SamplerState state() const { return {settings_.seed, counter_}; }
  // Forgets what it has chosen before.
  void restore(const SamplerState& state);

 private:
  struct Candidate {
    float logit;
    int32_t id;
  };
  void penalise(std::span<const float> logits, std::span<const int32_t> recent);
  void lower_chosen();
  void add_bias();
  Candidate load(std::span<const float> logits, std::span<const int32_t> recent);
  bool is_certain(const Candidate& best) const;
  size_t keep(double best);
  int32_t draw(size_t n);

  SamplingSettings settings_;
  Rng rng_;
  uint64_t counter_ = 0;
  std::unordered_map<int32_t, int64_t> chosen_;  // how often; only where a penalty asks for it
  std::vector<Candidate> candidates_;
  std::vector<double> weights_;  // of the candidates that are drawn from; 0: not drawn
};

}  // namespace sepllm
