// A set of token ids, stored as a bitset over the vocabulary. Separators reach the attention policy in this
// form.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace sepllm {

class TokenSet {
 public:
  TokenSet() = default;
  explicit TokenSet(int64_t vocab_size)
      : bits_(static_cast<size_t>((vocab_size + 63) / 64)), vocab_size_(vocab_size) {}

  // Adds an id; an id outside [0, vocab_size) is a bug of the caller.
  void insert(int32_t id);
  // False for every id outside [0, vocab_size).
  bool contains(int32_t id) const {
    return id >= 0 && id < vocab_size_ && ((bits_[static_cast<size_t>(id) / 64] >> (id % 64)) & 1) != 0;
  }
  int64_t vocab_size() const { return vocab_size_; }
  int64_t size() const;              // number of ids in the set
  std::vector<int32_t> ids() const;  // ascending
  bool operator==(const TokenSet&) const = default;

 private:
  std::vector<uint64_t> bits_;
  int64_t vocab_size_ = 0;
};

}  // namespace sepllm
