#include "server/page/cache_report.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "attention/policy.h"
#include "cache/kv_cache.h"

namespace sepllm::server {
namespace {

// The last layer that follows the policy's general rule; failing that, the last one.
int64_t ruled_layer(const KvCache& cache) {
  const int64_t n_layers = cache.layout().n_layers;
  const auto& exceptions = cache.policy().layer_window;
  for (int64_t layer = n_layers - 1; layer >= 0; --layer) {
    if (cache.layout().own_window(layer) == 0 && !exceptions.contains(layer) &&
        !exceptions.contains(layer - n_layers)) {
      return layer;
    }
  }
  return n_layers - 1;
}

const char* kept_kind(const Policy& policy, int64_t position) {
  if (policy.kind == PolicyKind::kFull) return "window";
  if (position < policy.init) return "initial";
  if (policy.uses_separators()) return "separator";
  return policy.kind == PolicyKind::kFixed ? "interval" : "window";
}

}  // namespace

Json cache_report(const Session& session) {
  const KvCache& cache = session.cache();
  std::vector<int64_t> positions = cache.slot_positions(ruled_layer(cache));
  // (Tokens that will stay are already copied while they are still in the window.)
  std::sort(positions.begin(), positions.end());
  positions.erase(std::unique(positions.begin(), positions.end()), positions.end());
  // The window is the run of positions that ends at the newest one; what lies before it was kept for a
  // reason.
  size_t window = positions.size();
  while (window > 0 && (window == positions.size() || positions[window - 1] == positions[window] - 1))
    --window;

  const Policy& policy = cache.policy();
  Json held = Json::array();
  for (size_t k = 0; k < positions.size(); ++k) {
    const int64_t position = positions[k];
    const bool initial = policy.kind != PolicyKind::kFull && position < policy.init;
    const char* kind = k >= window && !initial ? "window" : kept_kind(policy, position);
    if (!held.empty() && held.back()[1] == position - 1 && held.back()[2] == kind) {
      held.back()[1] = position;
    } else {
      held.push_back({position, position, kind});
    }
  }
  const KvStats stats = cache.stats();
  return {
      {"length", cache.length()},
      {"held", std::move(held)},
      {"kv",
       {{"bytes", cache.held_bytes()}, {"full_bytes", stats.full_bytes}, {"mean_keys", stats.mean_keys()}}}};
}

}  // namespace sepllm::server
