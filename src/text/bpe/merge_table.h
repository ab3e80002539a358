// BPE's merges: which two neighbouring tokens join, what they become, and in what order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace sepllm {

struct Merge {
  int32_t rank = 0;    // lower ranks are merged first
  int32_t result = 0;  // the id of the joined token
};

// A hash table with open addressing in one flat array.
class MergeTable {
 public:
  void reserve(size_t n);
  // If a pair is set twice, the last merge counts (as in the `tokenizers` library). Ids >= 0.
  void set(int32_t left, int32_t right, Merge merge);
  const Merge* find(int32_t left, int32_t right) const {
    const uint64_t key = key_of(left, right);
    for (size_t slot = slot_of(key);; slot = (slot + 1) & mask_) {
      if (entries_[slot].key == key) return &entries_[slot].merge;
      if (entries_[slot].key == kFree) return nullptr;
    }
  }
  size_t size() const { return size_; }

 private:
  struct Entry {
    uint64_t key = kFree;
    Merge merge;
  };
  static constexpr uint64_t kFree = ~uint64_t{0};
  static uint64_t key_of(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  size_t slot_of(uint64_t key) const {
    key *= 0x9E3779B97F4A7C15u;
    return static_cast<size_t>((key ^ key >> 29) * 0xBF58476D1CE4E5B9u >> 32) & mask_;
  }

  std::vector<Entry> entries_ = std::vector<Entry>(4);
  size_t mask_ = 3;
  size_t size_ = 0;
};

}  // namespace sepllm
