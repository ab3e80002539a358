#include "text/bpe/bpe_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/byte_alphabet.h"
#include "base/error.h"
#include "base/utf8.h"
#include "text/steps/unicode_class.h"

namespace sepllm {
namespace {

constexpr size_t kShortWord = 64;          // symbols; for longer words merge_long is faster
constexpr size_t kCuttable = 48;           // bytes; in shorter words looking for cuts does not pay
constexpr size_t kKeptCapacity = 1 << 20;  // elements that a scratch buffer keeps between words
constexpr size_t kNeighbourBits = 20;
constexpr size_t kCommonUnits = 0x10000;

size_t neighbour_slot(char32_t left, char32_t right) {
  const uint64_t key = static_cast<uint64_t>(left) << 32 | right;
  return static_cast<size_t>(key * 0x9E3779B97F4A7C15u >> (64 - kNeighbourBits));
}

// Calls fn(unit) for each byte or character.
template <typename Fn>
void for_each_unit(std::string_view text, bool bytes, Fn fn) {
  int length = 1;
  for (size_t at = 0; at < text.size(); at += static_cast<size_t>(length)) {
    fn(bytes ? static_cast<unsigned char>(text[at]) : decode_valid_utf8(text.data() + at, length));
  }
}

template <typename T>
void shrink(std::vector<T>& buffer) {
  if (buffer.capacity() > kKeptCapacity) std::vector<T>().swap(buffer);  // `= {}` would keep the memory
}

void shrink(BpeScratch& scratch) {
  shrink(scratch.symbols);
  shrink(scratch.previous);
  shrink(scratch.next);
}

}  // namespace

BpeModel::BpeModel(PieceTable pieces, BpeSettings settings, const std::string& file)
    : pieces_(std::move(pieces)), settings_(std::move(settings)) {
  if (!settings_.unk_token.empty()) {
    unk_id_ = pieces_.find(settings_.unk_token);
    if (unk_id_ < 0) {
      throw Error(ErrorCode::kBadFile, "the unknown token is not in the vocabulary",
                  {.file = file, .place = "model.unk_token", .got = settings_.unk_token});
    }
  }
  units_.clear();
  for (const bool first : {true, false}) {
    for (const bool last : {false, true}) {
      const auto [before, behind] = decoration(first, last);
      if (units_.empty() || decorated()) units_.push_back(index_units(before, behind));
    }
  }
  if (settings_.byte_fallback) index_fallback(file);
  index_neighbours();
}

BpeModel::BpeModel(PieceTable pieces, const std::vector<MergePair>& merges, BpeSettings settings,
                   const std::string& file)
    : BpeModel(std::move(pieces), std::move(settings), file) {
  merges_.reserve(merges.size());
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const auto& [left, right] = merges[rank];
    const auto id_of = [&](const std::string& piece) {
      const int32_t id = pieces_.find(piece);
      if (id < 0) {
        throw Error(ErrorCode::kBadFile, "merge of or into a piece that is not in the vocabulary",
                    {.file = file, .place = fmt::format("merges[{}]", rank), .got = "\"" + piece + "\""});
      }
      return id;
    };
    // The prefix of a piece that continues a word is not repeated inside a piece.
    const std::string whole = left + right.substr(std::min(settings_.continuing_prefix.size(), right.size()));
    merges_.set(id_of(left), id_of(right), {static_cast<int32_t>(rank), id_of(whole)});
  }
}

BpeModel BpeModel::from_ranks(PieceTable pieces, BpeSettings settings, const std::string& file) {
  BpeModel model(std::move(pieces), std::move(settings), file);
  for (int64_t id = 0; id < model.pieces_.size(); ++id) {
    const std::string_view piece = model.pieces_.piece(id);
    for (size_t cut = 1; cut < piece.size(); ++cut) {
      if ((static_cast<unsigned char>(piece[cut]) & 0xC0) == 0x80) continue;
      const int32_t left = model.pieces_.find(piece.substr(0, cut));
      const int32_t right = left < 0 ? -1 : model.pieces_.find(piece.substr(cut));
      if (right >= 0) model.merges_.set(left, right, {static_cast<int32_t>(id), static_cast<int32_t>(id)});
    }
  }
  return model;
}

std::pair<std::string_view, std::string_view> BpeModel::decoration(bool first, bool last) const {
  return {first ? std::string_view() : settings_.continuing_prefix,
          last ? std::string_view(settings_.end_suffix) : std::string_view()};
}

BpeModel::Units BpeModel::index_units(std::string_view before, std::string_view behind) const {
  Units units;
  units.common.assign(settings_.bytes ? 256 : kCommonUnits, -1);
  if (settings_.bytes) {
    for (size_t b = 0; b < 256; ++b) {
      std::string text(before);
      utf8_append(text, byte_alphabet()[b]);
      units.common[b] = pieces_.find(text.append(behind));
    }
    return units;
  }
  for (int64_t id = 0; id < pieces_.size(); ++id) {
    std::string_view piece = pieces_.piece(id);
    if (piece.size() <= before.size() + behind.size()) continue;
    if (!piece.starts_with(before) || !piece.ends_with(behind)) continue;
    piece = piece.substr(before.size(), piece.size() - before.size() - behind.size());
    const auto unit = utf8_decode(piece);
    if (!unit || static_cast<size_t>(unit->length) != piece.size()) continue;
    if (unit->code_point < kCommonUnits) {
      units.common[unit->code_point] = static_cast<int32_t>(id);
    } else {
      units.rare[unit->code_point] = static_cast<int32_t>(id);
    }
  }
  return units;
}

void BpeModel::index_fallback(const std::string& file) {
  if (settings_.bytes) {
    throw Error(ErrorCode::kUnsupported, "byte_fallback in a byte-level tokenizer",
                {.file = file, .place = "model.byte_fallback"});
  }
  fallback_.resize(256);
  for (int b = 0; b < 256; ++b)
    fallback_[static_cast<size_t>(b)] = pieces_.find(fmt::format("<0x{:02X}>", b));
}

void BpeModel::index_neighbours() {
  if (decorated()) return;  // a character's piece depends on its place in the word, so words are never cut
  neighbours_.assign(size_t{1} << kNeighbourBits, false);
  for (int64_t id = 0; id < pieces_.size(); ++id) {
    const std::string* piece = &pieces_.piece(id);
    std::optional<std::string> bytes;
    if (settings_.bytes) {
      bytes = byte_level_bytes(*piece);
      if (!bytes) continue;  // merges of bytes cannot reach it
      piece = &*bytes;
    }
    char32_t left = 0;
    bool first = true;
    for_each_unit(*piece, settings_.bytes, [&](char32_t unit) {
      if (!first) neighbours_[neighbour_slot(left, unit)] = true;
      left = unit;
      first = false;
    });
  }
}

int32_t BpeModel::unit_id(char32_t unit, const Units& units) {
  if (unit < units.common.size()) return units.common[unit];
  const auto found = units.rare.find(unit);
  return found == units.rare.end() ? -1 : found->second;
}

// No piece has these two next to each other, so no merge can cross. Unknown characters may still join in
// other ways.
bool BpeModel::may_cut(char32_t left, char32_t right) const {
  return !neighbours_[neighbour_slot(left, right)] && unit_id(left) >= 0 && unit_id(right) >= 0;
}

void BpeModel::encode_word(std::string_view word, BpeScratch& scratch, std::vector<int32_t>& out) const {
  if (word.size() > kCuttable && !decorated()) {
    encode_long_word(word, scratch, out);
  } else {
    encode_part(word, scratch, out);
  }
}

void BpeModel::encode_long_word(std::string_view word, BpeScratch& scratch, std::vector<int32_t>& out) const {
  size_t done = 0;
  int length = 1;
  char32_t left = 0;
  for (size_t at = 0; at < word.size(); at += static_cast<size_t>(length)) {
    const char32_t unit =
        settings_.bytes ? static_cast<unsigned char>(word[at]) : decode_valid_utf8(word.data() + at, length);
    if (at > 0 && may_cut(left, unit)) {
      encode_part(word.substr(done, at - done), scratch, out);
      done = at;
    }
    left = unit;
  }
  encode_part(word.substr(done), scratch, out);
}

void BpeModel::encode_part(std::string_view part, BpeScratch& scratch, std::vector<int32_t>& out) const {
  if (part.size() > WordCache::kMaxBytes) return encode_uncached(part, scratch, out);
  const WordCache::Key key = WordCache::key_of(part);
  const auto known = scratch.cache.find(key);
  if (!known.empty()) {
    out.insert(out.end(), known.begin(), known.end());
    return;
  }
  const size_t before = out.size();
  encode_uncached(part, scratch, out);
  scratch.cache.put(key, std::span(out).subspan(before));
}

void BpeModel::encode_uncached(std::string_view part, BpeScratch& scratch, std::vector<int32_t>& out) const {
  if (settings_.ignore_merges) {
    if (const int32_t id = whole_piece(part, scratch.text); id >= 0) return out.push_back(id);
  }
  scratch.symbols.clear();
  append_units(part, scratch.symbols);
  if (scratch.symbols.size() <= kShortWord) {
    merge_short(merges_, scratch.symbols, scratch.merges);
  } else {
    merge_long(merges_, scratch);
  }
  out.insert(out.end(), scratch.symbols.begin(), scratch.symbols.end());
  shrink(scratch);
}

void BpeModel::append_units(std::string_view part, std::vector<int32_t>& symbols) const {
  bool after_unknown = false;
  int length = 1;
  for (size_t at = 0; at < part.size(); at += static_cast<size_t>(length)) {
    const char32_t unit =
        settings_.bytes ? static_cast<unsigned char>(part[at]) : decode_valid_utf8(part.data() + at, length);
    const bool first = at == 0;
    const bool last = at + static_cast<size_t>(length) == part.size();
    const int32_t id =
        decorated() ? unit_id(unit, units_[(first ? 0 : 2) + (last ? 1 : 0)]) : unit_id(unit, units_[0]);
    bool unknown = false;
    if (id >= 0) {
      symbols.push_back(id);
    } else if (!append_fallback(part.substr(at, static_cast<size_t>(length)), first, last, symbols)) {
      unknown = true;
      if (unk_id_ >= 0 && !(after_unknown && settings_.fuse_unk)) symbols.push_back(unk_id_);
    }
    after_unknown = unknown;
  }
}

bool BpeModel::append_fallback(std::string_view character, bool first, bool last,
                               std::vector<int32_t>& symbols) const {
  if (!settings_.byte_fallback) return false;
  const auto [before, behind] = decoration(first, last);
  std::string bytes(before);
  bytes.append(character).append(behind);
  const auto id_of = [&](char b) { return fallback_[static_cast<unsigned char>(b)]; };
  if (std::any_of(bytes.begin(), bytes.end(), [&](char b) { return id_of(b) < 0; })) return false;
  for (const char b : bytes) symbols.push_back(id_of(b));
  return true;
}

int32_t BpeModel::whole_piece(std::string_view word, std::string& buffer) const {
  if (!settings_.bytes) return pieces_.find(word);
  buffer.clear();
  append_byte_level(buffer, word);
  return pieces_.find(buffer);
}

}  // namespace sepllm
