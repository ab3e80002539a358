#include "apps/tuning/layer_search.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace sepllm {
namespace {

constexpr int kSteps = 10;      // of a greedy pass
constexpr int kPatience = 2;    // steps without a better policy before a pass ends
constexpr int64_t kNarrow = 8;  // part of the window

using Choices = std::map<int64_t, LayerChoice>;

// How many layers change in a pass, step by step: 1, 2, 3, 4, 6, 8, 12, ...
std::vector<size_t> step_sizes(size_t n_layers) {
  std::vector<size_t> out;
  for (size_t n = 1; n <= n_layers && out.size() < kSteps; n += std::max<size_t>(1, n / 3)) out.push_back(n);
  return out;
}

std::string words(const Choices& choices, const PolicySettings& settings) {
  const auto count = [&](PolicyKind kind) {
    return std::count_if(choices.begin(), choices.end(),
                         [&](const auto& c) { return c.second.kind == kind; });
  };
  std::string out = short_name(settings.policy);
  if (const auto n = count(PolicyKind::kFull); n > 0)
    out += fmt::format(", {} full layer{}", n, n == 1 ? "" : "s");
  for (const PolicyKind kind : {PolicyKind::kSink, PolicyKind::kSep, PolicyKind::kFixed}) {
    if (const auto n = count(kind); n > 0)
      out += fmt::format(", {} {} layer{}", n, policy_name(kind), n == 1 ? "" : "s");
  }
  return out;
}

// One search with its state: the best policy so far.
struct Pass {
  const LayerSearch& search;
  std::vector<TuneTrial>* all;
  TuneTrial best;

  bool stopped() const { return search.events.stop(); }

  TuneTrial measure(const TunePolicy& policy) const {
    TuneTrial out{.policy = policy, .cost = search.trials.cost(policy.settings)};
    out.score = search.trials.score(policy.settings, search.events.stop);
    if (!out.score.complete) return out;
    search.events.measured(policy.name, out.score.nll);
    return out;
  }

  // True if it became the best.
  bool offer(const std::optional<TunePolicy>& policy) {
    if (!policy) return false;
    TuneTrial trial = measure(*policy);
    if (!trial.score.complete) return false;
    const bool better = trial.score.nll < best.score.nll;
    if (better) best = trial;
    all->push_back(std::move(trial));
    return better;
  }

  // Gives `choice` to the first 1, 2, 3, ... layers of `order`, in addition to `start`'s choices.
  void grow(const std::vector<int64_t>& order, const LayerChoice& choice) {
    const PolicySettings start = best.policy.settings;
    int failures = 0;
    for (const size_t n : step_sizes(order.size())) {
      if (stopped() || failures >= kPatience) return;
      Choices choices = start.policy.layer_policy;
      for (size_t k = 0; k < n; ++k) choices[order[k]] = choice;
      const auto policy = search.fitted(start, choices);
      if (!policy) return;
      failures = offer(policy) ? 0 : failures + 1;
    }
  }
};

// The difference that one choice for one layer makes.
double effect_of(const Pass& pass, const TuneTrial& start, int64_t layer, const LayerChoice& choice) {
  PolicySettings settings = start.policy.settings;
  settings.policy.layer_policy[layer] = choice;
  const TuneTrial trial =
      pass.measure({fmt::format("layer {} {}", layer, policy_name(choice.kind)), settings});
  return trial.score.complete ? trial.score.nll - start.score.nll : std::numeric_limits<double>::quiet_NaN();
}

// The layers with a finite effect, the smallest first; only those below `limit`.
std::vector<int64_t> ordered(const std::vector<LayerEffect>& effects, double LayerEffect::*member,
                             double limit) {
  std::vector<LayerEffect> rest;
  for (const LayerEffect& e : effects) {
    if (e.*member < limit) rest.push_back(e);
  }
  std::stable_sort(rest.begin(), rest.end(),
                   [&](const LayerEffect& a, const LayerEffect& b) { return a.*member < b.*member; });
  std::vector<int64_t> out;
  for (const LayerEffect& e : rest) out.push_back(e.layer);
  return out;
}

}  // namespace

int64_t LayerSearch::narrow_window(const PolicySettings& like) const {
  return std::max<int64_t>(1, like.policy.window / kNarrow);
}

int64_t LayerSearch::most_measurements() const {
  return (other != nullptr ? 3 : 2) * std::ssize(layers) + 4 * kSteps;
}

std::optional<TunePolicy> LayerSearch::fitted(const PolicySettings& like, const Choices& choices) const {
  const auto with_window = [&](int64_t window) {
    PolicySettings out = like;
    out.policy.window = window;
    out.policy.layer_policy = choices;
    return out;
  };
  const auto window = largest_fitting(1, space.context, budget, trials, with_window);
  if (!window) return std::nullopt;
  const PolicySettings settings = with_window(*window);
  return TunePolicy{words(choices, settings), settings};
}

TuneTrial LayerSearch::run(const TuneTrial& start, std::vector<LayerEffect>* effects,
                           std::vector<TuneTrial>* trials_out) const {
  Pass pass{.search = *this, .all = trials_out, .best = start};
  LayerChoice another;
  if (other != nullptr) {
    const Policy& p = other->policy.settings.policy;
    another = {.kind = p.kind, .window = p.window, .interval = p.kind == PolicyKind::kFixed ? p.interval : 0};
    if (p.uses_separators()) {
      pass.best.policy.settings.separators = other->policy.settings.separators;
      pass.best.policy.settings.policy.max_segment = p.max_segment;
    }
  }
  const TuneTrial begin = pass.best;
  const LayerChoice full{.kind = PolicyKind::kFull};
  const LayerChoice narrow{.kind = PolicyKind::kSink, .window = narrow_window(start.policy.settings)};
  for (const int64_t layer : layers) {
    if (pass.stopped()) break;
    LayerEffect e{.layer = layer, .other = std::numeric_limits<double>::quiet_NaN()};
    e.full = effect_of(pass, begin, layer, full);
    e.narrow = effect_of(pass, begin, layer, narrow);
    if (other != nullptr) e.other = effect_of(pass, begin, layer, another);
    effects->push_back(e);
  }
  // A layer that has a choice keeps it.
  const auto grow = [&](double LayerEffect::*member, double limit, const LayerChoice& choice) {
    std::vector<int64_t> order = ordered(*effects, member, limit);
    const Choices now = pass.best.policy.settings.policy.layer_policy;
    std::erase_if(order, [&](int64_t layer) { return now.contains(layer); });
    pass.grow(order, choice);
  };
  grow(&LayerEffect::full, 0, full);
  grow(&LayerEffect::narrow, INFINITY, narrow);
  grow(&LayerEffect::full, 0, full);  // layers that need little may have made room for more
  grow(&LayerEffect::other, 0, another);
  return pass.best;
}

}  // namespace sepllm
