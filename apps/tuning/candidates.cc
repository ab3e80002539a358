#include "apps/tuning/candidates.h"

#include <fmt/format.h>

#include <algorithm>

namespace sepllm {

PolicySettings TuneSpace::with_kind(PolicyKind kind) const {
  PolicySettings out = base;
  out.policy.kind = kind;
  out.policy.positions = out.policy.streaming() ? PositionMode::kCache : PositionMode::kOriginal;
  return out;
}

PolicySettings TuneSpace::sized(PolicyKind kind, int64_t window) const {
  PolicySettings out = with_kind(kind);
  out.policy.window = window;
  return out;
}

std::optional<int64_t> largest_fitting(int64_t low, int64_t high, const TuneBudget& budget,
                                       const Trials& trials,
                                       const std::function<PolicySettings(int64_t)>& make) {
  const auto fits = [&](int64_t n) { return budget.used(trials.cost(make(n))) <= 1; };
  if (low > high || !fits(low)) return std::nullopt;
  while (low < high) {
    const int64_t middle = low + (high - low + 1) / 2;
    if (fits(middle)) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

std::string short_name(const Policy& p) {
  std::string out = policy_name(p.kind);
  if (p.kind == PolicyKind::kSinkStream) return out + fmt::format(" c={}", p.capacity);
  if (p.kind == PolicyKind::kSepStream) out += fmt::format(" c={} s={} w={}", p.capacity, p.seps, p.window);
  if (p.kind == PolicyKind::kFixed) out += fmt::format(" k={}", p.interval);
  if (p.kind == PolicyKind::kMoba || p.kind == PolicyKind::kSepMoba)
    return out + fmt::format(" B={} K={}", p.block_size, p.blocks);
  if (!p.streaming() && p.kind != PolicyKind::kFull) out += fmt::format(" n={}", p.window);
  if (p.uses_separators() && p.max_segment > 0) out += fmt::format(" m={}", p.max_segment);
  return out;
}

std::vector<TunePolicy> uniform_candidates(const TuneSpace& space, const TuneBudget& budget,
                                           const Trials& trials) {
  std::vector<TunePolicy> out;
  const auto add = [&](int64_t low, const std::function<PolicySettings(int64_t)>& make, const char* remark) {
    const auto n = largest_fitting(low, space.context, budget, trials, make);
    if (!n) return;
    const PolicySettings settings = make(*n);
    out.push_back({short_name(settings.policy) + remark, settings});
  };
  const auto sep_with = [&](const std::string& separators, int64_t max_segment) {
    return [=, &space](int64_t n) {
      PolicySettings s = space.sized(PolicyKind::kSep, n);
      if (!separators.empty()) s.separators = separators;
      s.policy.max_segment = max_segment;
      return s;
    };
  };
  add(
      1, [&](int64_t n) { return space.sized(PolicyKind::kSink, n); }, "");
  add(1, sep_with("", 0), "");
  if (!space.learned.empty()) add(1, sep_with(space.learned, 0), ", half of the separators");
  if (space.has_specials) add(1, sep_with("special", 0), ", special tokens instead of separators");
  add(1, sep_with("", 16), "");
  for (const int64_t interval : {8, 16}) {
    const auto fixed = [&, interval](int64_t n) {
      PolicySettings s = space.sized(PolicyKind::kFixed, n);
      s.policy.interval = interval;
      return s;
    };
    add(1, fixed, "");
  }
  const int64_t init = space.base.policy.init;
  const auto sink_stream = [&](int64_t capacity) {
    PolicySettings s = space.with_kind(PolicyKind::kSinkStream);
    s.policy.capacity = capacity;
    return s;
  };
  add(init + 1, sink_stream, "");
  // The paper's proportions: s = 64 and w = 256 of c = 800.
  const auto sep_stream = [&](int64_t capacity) {
    PolicySettings s = space.with_kind(PolicyKind::kSepStream);
    s.policy.capacity = capacity;
    s.policy.seps = std::max<int64_t>(1, capacity * 64 / 800);
    s.policy.window = std::max<int64_t>(1, capacity * 256 / 800);
    return s;
  };
  add(2 * init + 8, sep_stream, "");
  return out;
}

}  // namespace sepllm
