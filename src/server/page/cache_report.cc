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
  const auto& windows = cache.policy().layer_window;
  for (int64_t layer = n_layers - 1; layer >= 0; --layer) {
    if (cache.layout().own_window(layer) == 0 && !windows.contains(layer) &&
        !windows.contains(layer - n_layers) && cache.policy().choice_of(layer, n_layers) == nullptr) {
      return layer;
    }
  }
  return n_layers - 1;
}

// Why a token that is older than the window is still there, under the rule of a layer.
const char* kept_kind(const LayerRule& rule, int64_t position) {
  if (position < rule.init) return "initial";
  if (rule.keeps == LayerRule::Keeps::kSeparators) return "separator";
  return rule.keeps == LayerRule::Keeps::kInterval ? "interval" : "window";
}

}  // namespace

Json cache_report(const Session& session) {
  const KvCache& cache = session.cache();
  const int64_t layer = ruled_layer(cache);
  std::vector<int64_t> positions = cache.slot_positions(layer);
  // (Tokens that will stay are already copied while they are still in the window.)
  std::sort(positions.begin(), positions.end());
  positions.erase(std::unique(positions.begin(), positions.end()), positions.end());
  // The window is the run of positions that ends at the newest one; what lies before it was kept for a
  // reason.
  size_t window = positions.size();
  while (window > 0 && (window == positions.size() || positions[window - 1] == positions[window] - 1))
    --window;

  const LayerRule rule =
      cache.policy().rule(layer, cache.layout().n_layers, cache.layout().own_window(layer));
  Json held = Json::array();
  for (size_t k = 0; k < positions.size(); ++k) {
    const int64_t position = positions[k];
    const char* kind = k >= window && position >= rule.init ? "window" : kept_kind(rule, position);
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
