// Greedy search over layers: which of them should see more than the others at the same total cost.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "apps/tuning/candidates.h"
#include "apps/tuning/trials.h"

namespace sepllm {

// What one layer would change, measured with all other layers as they are. Differences of the mean NLL; NaN:
// not measured.
struct LayerEffect {
  int64_t layer = 0;
  double full = 0;    // the layer sees everything: below 0 if that helps
  double narrow = 0;  // the layer sees a narrow window: above 0 if that hurts
  double other = 0;   // the layer has another kind of rule with about as many keys
};

// A policy that was measured on the calibration text.
struct TuneTrial {
  TunePolicy policy;
  TuneCost cost{};
  TuneScore score{};
  bool fixed = false;  // one rule for all layers
};

// Told after each measurement: what was measured and how many are done; and asked whether to stop.
struct SearchEvents {
  std::function<void(const std::string& what, double nll)> measured;
  std::function<bool()> stop;
};

struct LayerSearch {
  const TuneSpace& space;
  const TuneBudget& budget;
  const Trials& trials;
  std::vector<int64_t> layers;  // those that a policy rules
  const SearchEvents& events;
  // A measured policy of another static kind than the start, with one rule; null: there is none.
  const TuneTrial* other = nullptr;

  // Begins with the best static policy with one rule, `start`. Measures the effect of every layer; then gives
  // full attention to the layers that it helps most per key, one more at a time, and a narrow window to those
  // that lose least, or the other kind of rule to those that it helps, and each time fits the window of all
  // others to the budget. Every step is measured, and the best is the result. `trials_out` gets every policy
  // that was measured.
  TuneTrial run(const TuneTrial& start, std::vector<LayerEffect>* effects,
                std::vector<TuneTrial>* trials_out) const;

  // The policy `like` with choices for some layers, where the others have the largest window that fits the
  // budget; nullopt if nothing fits.
  std::optional<TunePolicy> fitted(const PolicySettings& like,
                                   const std::map<int64_t, LayerChoice>& choices) const;

  // The window of "narrow".
  int64_t narrow_window(const PolicySettings& like) const;
  // The number of measurements that run() makes at most.
  int64_t most_measurements() const;
};

}  // namespace sepllm
