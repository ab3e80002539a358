// Token ids that come one after the other, from memory or from files that are larger than memory.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/check.h"

namespace sepllm {

class TokenStream {
 public:
  virtual ~TokenStream() = default;
  // The next n ids, or fewer if the stream ends before; they stay in the stream. Valid until the next call.
  virtual std::span<const int32_t> peek(int64_t n) = 0;
  // Removes the next n ids, which must have been peeked at.
  virtual void take(int64_t n) = 0;
};

// Ids in memory that somebody else owns.
class SpanStream : public TokenStream {
 public:
  explicit SpanStream(std::span<const int32_t> ids) : left_(ids) {}
  std::span<const int32_t> peek(int64_t n) override {
    return left_.first(std::min(left_.size(), static_cast<size_t>(n)));
  }
  void take(int64_t n) override {
    SEPLLM_CHECK(n >= 0 && static_cast<size_t>(n) <= left_.size());
    left_ = left_.subspan(static_cast<size_t>(n));
  }

 private:
  std::span<const int32_t> left_;
};

}  // namespace sepllm
