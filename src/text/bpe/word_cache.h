// A cache of short words and their tokens, because natural text repeats a few words very often.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace sepllm {

class WordCache {
 public:
  static constexpr size_t kMaxBytes = 24;
  static constexpr size_t kMaxIds = 9;

  // A word as three zero-padded machine words.
  struct Key {
    std::array<uint64_t, 3> words{};
    uint8_t size = 0;
    bool operator==(const Key&) const = default;
  };

  // `word`: 1 to kMaxBytes bytes.
  static Key key_of(std::string_view word) {
    Key key;
    key.size = static_cast<uint8_t>(word.size());
    std::memcpy(key.words.data(), word.data(), word.size());
    return key;
  }

  // The tokens of the word, or an empty span if it is not in the cache.
  std::span<const int32_t> find(const Key& key) const {
    const Entry& entry = entries_[slot_of(key)];
    if (entry.size != key.size || entry.words != key.words) return {};
    return {entry.ids.data(), entry.n_ids};
  }

  // Stores the tokens of a word; they replace another word's in the same slot. A word with too many tokens is
  // not stored.
  void put(const Key& key, std::span<const int32_t> ids) {
    if (ids.size() > kMaxIds) return;
    Entry& entry = entries_[slot_of(key)];
    entry.words = key.words;
    entry.size = key.size;
    entry.n_ids = static_cast<uint8_t>(ids.size());
    if (!ids.empty()) std::memcpy(entry.ids.data(), ids.data(), ids.size_bytes());
  }

 private:
  static constexpr int kBits = 15;  // 2 MiB: about the size of a core's second-level cache
  struct alignas(64) Entry {
    std::array<uint64_t, 3> words;
    std::array<int32_t, kMaxIds> ids;
    uint8_t size;  // 0: free
    uint8_t n_ids;
  };
  static_assert(sizeof(Entry) == 64);

  static size_t slot_of(const Key& key) {
    uint64_t h = key.words[0] * 0x9E3779B97F4A7C15u;
    h = (h ^ h >> 32 ^ key.words[1]) * 0xD6E8FEB86659FD93u;
    h = (h ^ h >> 32 ^ key.words[2] ^ key.size) * 0xBF58476D1CE4E5B9u;
    return static_cast<size_t>(h >> (64 - kBits));
  }

  std::vector<Entry> entries_ = std::vector<Entry>(size_t{1} << kBits);
};

}  // namespace sepllm
