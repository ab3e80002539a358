#include "cache/kv_plan.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "base/check.h"

namespace sepllm {
namespace {

constexpr int32_t kOther = 0;
constexpr int32_t kSeparator = 1;

// A cache that plans a stream. Its rows have one number, because only the number of slots matters.
class Stream {
 public:
  Stream(const KvLayout& layout, const Policy& policy, int64_t max_chunk, double share)
      : cache_({layout.n_layers, 1, 1, DType::kF32, layout.own_windows}, policy, separators(),
               Memory::kAddresses),
        max_chunk_(max_chunk),
        share_(share) {}

  void feed_to(int64_t end) {
    while (cache_.length() < end) {
      tokens_.clear();
      const int64_t n = std::min({end - cache_.length(), max_chunk_, cache_.max_chunk()});
      for (int64_t t = cache_.length(); t < cache_.length() + n; ++t)
        tokens_.push_back(separators_before(t + 1) > separators_before(t) ? kSeparator : kOther);
      cache_.begin_chunk(tokens_);
      cache_.end_chunk();  // its moves would carry rows
    }
  }
  int64_t peak_slots() const { return cache_.stats().peak_bytes / cache_.slot_bytes(); }
  int64_t reserved_slots() const { return cache_.stats().reserved_bytes / cache_.slot_bytes(); }
  int64_t held_means() const { return cache_.held_means(); }
  int64_t reserved_means() const { return cache_.reserved_means(); }

 private:
  static TokenSet separators() {
    TokenSet set(2);
    set.insert(kSeparator);
    return set;
  }
  double separators_before(int64_t position) const {
    return std::floor(share_ * static_cast<double>(position));
  }

  KvCache cache_;
  int64_t max_chunk_;
  double share_;
  std::vector<int32_t> tokens_;
};

// The length from which on every layer has its full window.
int64_t settled(const KvLayout& layout, const Policy& policy, int64_t max_chunk) {
  int64_t out = policy.streaming() ? policy.capacity : 0;
  for (int64_t l = 0; l < layout.n_layers; ++l) {
    const int64_t window = policy.rule(l, layout.n_layers, layout.own_window(l)).window;
    if (window < kUnlimited) out = std::max(out, window);
  }
  return policy.init + out + max_chunk;
}

// The most slots of one layer's two parts.
struct MostSlots {
  int64_t compact = 0, band = 0;
};

// The most that the compact part keeps, without the room that growth by halves leaves.
int64_t most_kept(const LayerRule& rule, const Policy& policy, int64_t tokens) {
  if (rule.streams) return policy.seps_unbounded ? tokens : rule.init + policy.seps;
  switch (rule.keeps) {
    case LayerRule::Keeps::kNothing:
      return rule.init;
    case LayerRule::Keeps::kInterval:
      return rule.init + tokens / rule.interval;
    case LayerRule::Keeps::kSeparators:
      break;
  }
  return tokens;
}

// The most bytes of the means of blocks. (Those of a layer that grow are there twice while they are copied.)
int64_t most_mean_bytes(const KvLayout& layout, const Policy& policy, int64_t tokens) {
  int64_t blocks = 0, most_of_layer = 0;
  for (int64_t l = 0; l < layout.n_layers; ++l) {
    const BlockRule rule = policy.rule(l, layout.n_layers, layout.own_window(l)).blocks;
    const int64_t n = rule.used() ? tokens / rule.size * rule.means_of_block() : 0;
    blocks += n;
    most_of_layer = std::max(most_of_layer, n);
  }
  return (blocks + most_of_layer) * layout.n_kv_heads * layout.head_dim * static_cast<int64_t>(sizeof(float));
}

MostSlots most_slots(const LayerRule& rule, const Policy& policy, int64_t tokens, int64_t max_chunk) {
  if (!rule.streams && rule.window >= kUnlimited) return {0, tokens};
  const int64_t kept = most_kept(rule, policy, tokens);
  const int64_t band = rule.streams ? policy.capacity + 1 : rule.window - 1 + std::min(tokens, max_chunk);
  constexpr int64_t kLeastCompact = 16;
  return {std::min(tokens, std::max(kept + kept / 2, kLeastCompact)), std::min(tokens, band)};
}

}  // namespace

int64_t most_kv_bytes(const KvLayout& layout, const Policy& policy, int64_t tokens, int64_t max_chunk) {
  int64_t slots = 0, most_of_layer = 0;
  for (int64_t l = 0; l < layout.n_layers; ++l) {
    const LayerRule rule = policy.rule(l, layout.n_layers, layout.own_window(l));
    const MostSlots most = most_slots(rule, policy, tokens, max_chunk);
    slots += most.compact + most.band;
    most_of_layer = std::max(most_of_layer, most.compact + most.band);
  }
  // (A part that grows is there twice while its rows are copied, one layer after the other.)
  return (slots + most_of_layer) * KvCache(layout, policy, TokenSet(1)).slot_bytes() +
         most_mean_bytes(layout, policy, tokens);
}

int64_t most_mark_bytes(const KvLayout& layout, const Policy& policy, int64_t tokens, int64_t max_chunk) {
  constexpr int64_t kHeader = 1024;
  constexpr auto kPerSlot = static_cast<int64_t>(sizeof(int64_t) + sizeof(int32_t));  // position and token
  const int64_t slot_bytes = KvCache(layout, policy, TokenSet(1)).slot_bytes() + kPerSlot;
  int64_t slots = 0;
  for (int64_t l = 0; l < layout.n_layers; ++l) {
    const LayerRule rule = policy.rule(l, layout.n_layers, layout.own_window(l));
    const MostSlots most = most_slots(rule, policy, tokens, max_chunk);
    // Rows that never move or leave are not copied.
    slots += (rule.streams ? most.compact : 0) + (!rule.streams && rule.window >= kUnlimited ? 0 : most.band);
  }
  return kHeader + slots * slot_bytes;
}

KvPlan plan_kv(const KvLayout& layout, const Policy& policy, int64_t tokens, int64_t max_chunk,
               double separator_share) {
  SEPLLM_CHECK(tokens >= 0 && max_chunk >= 1 && separator_share >= 0 && separator_share <= 1);
  // (Windows of many millions are planned as if there were no window, which never plans too little.)
  constexpr int64_t kLeast = int64_t{1} << 18, kMost = int64_t{1} << 24;
  const int64_t chunk = std::min(max_chunk, kLeast);
  const int64_t far = std::clamp(4 * std::min(settled(layout, policy, chunk), kMost), kLeast, kMost);
  const int64_t slot_bytes = KvCache(layout, policy, TokenSet(1)).slot_bytes();
  Stream stream(layout, policy, chunk, separator_share);
  if (tokens <= far) {
    stream.feed_to(tokens);
    const int64_t mean_bytes = KvCache(layout, policy, TokenSet(1)).mean_bytes();
    return {stream.peak_slots() * slot_bytes + stream.held_means() * mean_bytes,
            stream.reserved_slots() * slot_bytes + stream.reserved_means() * mean_bytes};
  }
  stream.feed_to(far / 2);
  const int64_t half = stream.peak_slots();
  stream.feed_to(far);
  const int64_t whole = stream.peak_slots();
  const double rate = static_cast<double>(whole - half) / static_cast<double>(far - far / 2);
  const auto more = static_cast<int64_t>(std::ceil(rate * static_cast<double>(tokens - far)));
  const int64_t peak = (whole + more) * slot_bytes + most_mean_bytes(layout, policy, tokens);
  return {peak, peak + peak / 2};
}

}  // namespace sepllm
