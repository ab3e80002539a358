#include "text/bpe/merge_table.h"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace sepllm {

void MergeTable::reserve(size_t n) {
  const size_t capacity = std::bit_ceil(2 * n + 4);
  if (capacity <= entries_.size()) return;
  std::vector<Entry> old(capacity);
  old.swap(entries_);
  mask_ = capacity - 1;
  for (const Entry& entry : old) {
    if (entry.key == kFree) continue;
    size_t slot = slot_of(entry.key);
    while (entries_[slot].key != kFree) slot = (slot + 1) & mask_;
    entries_[slot] = entry;
  }
}

void MergeTable::set(int32_t left, int32_t right, Merge merge) {
  reserve(size_ + 1);
  const uint64_t key = key_of(left, right);
  size_t slot = slot_of(key);
  while (entries_[slot].key != kFree && entries_[slot].key != key) slot = (slot + 1) & mask_;
  size_ += entries_[slot].key == kFree;
  entries_[slot] = {key, merge};
}

}  // namespace sepllm
