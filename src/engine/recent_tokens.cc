#include "engine/recent_tokens.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/sampler.h"

namespace sepllm {

RecentTokens::RecentTokens(int64_t limit)
    : whole_(limit == SamplingSettings::kWholeContext),
      limit_(whole_ ? 0 : static_cast<size_t>(std::min<int64_t>(limit, int64_t{1} << 40))) {}

void RecentTokens::add(int32_t id) {
  if (whole_) {
    if (seen_.insert(id).second) tokens_.push_back(id);
    return;
  }
  if (limit_ == 0) return;
  if (tokens_.size() >= 2 * limit_)
    tokens_.erase(tokens_.begin(), tokens_.end() - static_cast<std::ptrdiff_t>(limit_));
  tokens_.push_back(id);
}

void RecentTokens::add(std::span<const int32_t> ids) {
  const size_t n = whole_ ? ids.size() : std::min(ids.size(), limit_);
  for (const int32_t id : ids.last(n)) add(id);
}

}  // namespace sepllm
