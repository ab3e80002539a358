#include "tensor/arena.h"

#include <algorithm>
#include <cstdint>

#include "base/check.h"

namespace sepllm {

void* Arena::allocate_bytes(int64_t bytes) {
  SEPLLM_CHECK(bytes >= 0 && bytes < (INT64_MAX >> 2));
  const int64_t rounded = (std::max<int64_t>(bytes, 1) + 63) / 64 * 64;
  while (block_ < blocks_.size() && used_ + rounded > blocks_[block_].bytes()) {
    ++block_;
    used_ = 0;
  }
  if (block_ == blocks_.size()) {
    blocks_.emplace_back(std::max({rounded, reserved_bytes(), least_}), "the forward pass", memory_);
    used_ = 0;
  }
  char* p = blocks_[block_].as<char>() + used_;
  used_ += rounded;
  allocated_ += rounded;
  peak_ = std::max(peak_, allocated_);
  return p;
}

void Arena::reserve(int64_t bytes) {
  SEPLLM_CHECK(allocated_ == 0);
  blocks_.clear();
  block_ = 0;
  used_ = 0;
  least_ = std::max(least_, bytes);
  blocks_.emplace_back(least_, "the forward pass", memory_);
}

int64_t Arena::reserved_bytes() const {
  int64_t total = 0;
  for (const Buffer& b : blocks_) total += b.bytes();
  return total;
}

// The next allocation replaces them by one block of the whole size, so the next pass fits without a search.
// (Not here: at the end of a scope a failure could not be reported.)
void Arena::drop_if_scattered() noexcept {
  if (block_ != 0 || used_ != 0 || blocks_.size() < 2) return;
  least_ = reserved_bytes();
  blocks_.clear();
}

}  // namespace sepllm
