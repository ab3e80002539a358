// The policies that `sepllm tune` starts from and compares with: one rule for all layers, as large as the
// budget allows.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "apps/tuning/trials.h"

namespace sepllm {

// The settings that stay the same in the whole search: initial tokens, separators, type of the cache, chunk.
// Policies are made from them with these functions.
struct TuneSpace {
  PolicySettings base;
  int64_t context = 0;  // tokens of a piece
  // A separator rule for only the separators that draw most attention in this model; empty: not measured.
  std::string learned{};
  bool has_specials = false;  // special tokens occur in the text (not counting the first)

  PolicySettings with_kind(PolicyKind kind) const;
  PolicySettings sized(PolicyKind kind, int64_t window) const;
};

// The largest n in [low, high] for which `make(n)` fits the budget, where a larger n costs more; nullopt if
// none fits.
std::optional<int64_t> largest_fitting(int64_t low, int64_t high, const TuneBudget& budget,
                                       const Trials& trials,
                                       const std::function<PolicySettings(int64_t)>& make);

// sink, sep (and variants), fixed, sink-stream and sep-stream, each as large as the budget allows; what does
// not fit with any size is left out.
std::vector<TunePolicy> uniform_candidates(const TuneSpace& space, const TuneBudget& budget,
                                           const Trials& trials);

// "sink n=256", "sep-stream c=301 s=24 w=96", ...: the numbers of a policy in a few words.
std::string short_name(const Policy& policy);

}  // namespace sepllm
