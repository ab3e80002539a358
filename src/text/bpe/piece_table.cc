#include "text/bpe/piece_table.h"

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace sepllm {

uint64_t hash_bytes(std::string_view bytes) {
  uint64_t h = 0x9E3779B97F4A7C15u ^ bytes.size();
  const auto mix = [&h](uint64_t word) {
    h = (h ^ word) * 0xD6E8FEB86659FD93u;
    h ^= h >> 32;
  };
  size_t at = 0;
  for (; at + 8 <= bytes.size(); at += 8) {
    uint64_t word = 0;
    std::memcpy(&word, bytes.data() + at, 8);
    mix(word);
  }
  uint64_t tail = 0;
  if (at < bytes.size()) std::memcpy(&tail, bytes.data() + at, bytes.size() - at);
  mix(tail);
  return h * 0x9E3779B97F4A7C15u;
}

int64_t max_token_id(size_t n_entries) { return 4 * static_cast<int64_t>(n_entries) + 65536; }

PieceTable::PieceTable(std::vector<VocabEntry> entries, const std::string& file) {
  const int64_t max_id = max_token_id(entries.size());
  slots_.assign(std::bit_ceil(2 * entries.size() + 2), -1);
  for (auto& [text, id] : entries) {
    const auto fail = [&, &text = text](const char* what) {
      throw Error(ErrorCode::kBadFile, what, {.file = file, .place = "vocab", .got = "\"" + text + "\""});
    };
    if (id < 0 || id > max_id) fail("token id out of range");
    if (text.empty()) fail("empty token");
    if (static_cast<size_t>(id) >= pieces_.size()) pieces_.resize(static_cast<size_t>(id) + 1);
    if (!pieces_[static_cast<size_t>(id)].empty()) fail("two tokens with one id");
    size_t slot = hash_bytes(text) >> 32 & (slots_.size() - 1);
    for (; slots_[slot] >= 0; slot = (slot + 1) & (slots_.size() - 1)) {
      if (pieces_[static_cast<size_t>(slots_[slot])] == text) fail("token given twice");
    }
    slots_[slot] = static_cast<int32_t>(id);
    pieces_[static_cast<size_t>(id)] = std::move(text);
  }
}

int32_t PieceTable::find(std::string_view piece) const {
  if (slots_.empty()) return -1;
  size_t slot = hash_bytes(piece) >> 32 & (slots_.size() - 1);
  for (; slots_[slot] >= 0; slot = (slot + 1) & (slots_.size() - 1)) {
    if (pieces_[static_cast<size_t>(slots_[slot])] == piece) return slots_[slot];
  }
  return -1;
}

}  // namespace sepllm
