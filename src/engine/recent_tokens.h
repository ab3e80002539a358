// The tokens that a sampler's repeat penalty looks at, in memory that does not grow with a stream.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_set>
#include <vector>

namespace sepllm {

class RecentTokens {
 public:
  // `limit`: Sampler::recent_tokens(). 0: none; kWholeContext: all.
  explicit RecentTokens(int64_t limit);
  void add(int32_t id);
  void add(std::span<const int32_t> ids);
  // At least the last `limit` tokens in order; or, for the whole context, each token that occurred, once.
  std::span<const int32_t> tokens() const { return tokens_; }

 private:
  bool whole_;
  size_t limit_;
  std::vector<int32_t> tokens_;
  std::unordered_set<int32_t> seen_;  // only for the whole context
};

}  // namespace sepllm
