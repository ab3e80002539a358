#include "text/bpe/score_bpe.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "base/error.h"
#include "base/utf8.h"

namespace sepllm {
namespace {

constexpr uint64_t kEmpty = ~uint64_t{0};

uint64_t pair_of(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

size_t place_of(uint64_t pair, size_t n_places) {
  return static_cast<size_t>((pair * 0x9E3779B97F4A7C15u) >> 20) & (n_places - 1);
}

}  // namespace

// Working memory that is kept from word to word.
struct ScoreBpe::Scratch {
  struct Symbol {
    int32_t id;
    int64_t previous, next;  // -1: none
  };

  // A pair that may be merged, with the symbols that it had when it was found.
  struct Candidate {
    float score;
    int32_t merged, left_id, right_id;
    int64_t left;
  };

  // Heap order: the best candidate comes first.
  static bool worse(const Candidate& a, const Candidate& b) {
    return a.score != b.score ? a.score < b.score : a.left > b.left;
  }

  std::vector<int32_t> ids;
  std::vector<Symbol> symbols;
  std::vector<Candidate> heap;
};

ScoreBpe::ScoreBpe(const std::vector<ScoredPiece>& pieces, const std::string& file) : merges_(1024) {
  for (Merge& m : merges_) m.pair = kEmpty;
  by_text_.reserve(pieces.size());
  for (size_t id = 0; id < pieces.size(); ++id) {
    const ScoredPiece& piece = pieces[id];
    if (!std::isfinite(piece.score) || piece.text.size() > kMaxPieceBytes) {
      throw Error(
          ErrorCode::kBadFile, "bad token",
          {.file = file,
           .place = fmt::format("token {}", id),
           .expected = fmt::format("a finite score and at most {} bytes", kMaxPieceBytes),
           .got = fmt::format("score {}, {} bytes", static_cast<double>(piece.score), piece.text.size())});
    }
    if (piece.mergeable && !piece.text.empty()) by_text_.emplace(piece.text, static_cast<int32_t>(id));
  }
  for (const auto& [text, id] : by_text_) {
    const std::string_view whole = text;
    for (size_t cut = 1; cut < whole.size(); ++cut) {
      if ((static_cast<unsigned char>(whole[cut]) & 0xC0) == 0x80) continue;  // inside a character
      const int32_t left = find(whole.substr(0, cut));
      if (left < 0) continue;
      const int32_t right = find(whole.substr(cut));
      if (right >= 0) insert_merge({pair_of(left, right), id, pieces[static_cast<size_t>(id)].score});
    }
  }
  word_by_word_ = no_merge_before_blank();
}

int32_t ScoreBpe::find(std::string_view text) const {
  const auto it = by_text_.find(text);
  return it == by_text_.end() ? -1 : it->second;
}

// Whether no piece has a blank after anything but blanks. Then no merge crosses the place before a word's
// blank, and a text can be merged word by word with the same result.
bool ScoreBpe::no_merge_before_blank() const {
  return std::none_of(by_text_.begin(), by_text_.end(), [](const auto& entry) {
    const size_t word = entry.first.find_first_not_of(' ');
    return word != std::string::npos && entry.first.find(' ', word) != std::string::npos;
  });
}

bool ScoreBpe::cuts_before_line_break() const {
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  return std::none_of(by_text_.begin(), by_text_.end(), [&](const auto& entry) {
    const std::string& text = entry.first;
    for (size_t at = text.find_first_of("\r\n", 1); at < text.size();
         at = text.find_first_of("\r\n", at + 1)) {
      if (is_letter(text[at - 1])) return true;
    }
    return false;
  });
}

void ScoreBpe::insert_merge(const Merge& merge) {
  if (++n_merges_ * 2 > merges_.size()) {
    std::vector<Merge> old(merges_.size() * 2, Merge{kEmpty, 0, 0});
    old.swap(merges_);
    for (const Merge& m : old) {
      if (m.pair == kEmpty) continue;
      --n_merges_;  // the insertion counts it again
      insert_merge(m);
    }
  }
  size_t place = place_of(merge.pair, merges_.size());
  while (merges_[place].pair != kEmpty) place = (place + 1) & (merges_.size() - 1);
  merges_[place] = merge;
}

const ScoreBpe::Merge* ScoreBpe::find_merge(int32_t left, int32_t right) const {
  const uint64_t pair = pair_of(left, right);
  size_t place = place_of(pair, merges_.size());
  while (merges_[place].pair != kEmpty) {
    if (merges_[place].pair == pair) return &merges_[place];
    place = (place + 1) & (merges_.size() - 1);
  }
  return nullptr;
}

void ScoreBpe::push(Scratch& scratch, int64_t left) const {
  if (left < 0) return;
  const Scratch::Symbol& symbol = scratch.symbols[static_cast<size_t>(left)];
  if (symbol.next < 0) return;
  const int32_t right_id = scratch.symbols[static_cast<size_t>(symbol.next)].id;
  const Merge* merge = find_merge(symbol.id, right_id);
  if (merge == nullptr) return;
  scratch.heap.push_back({merge->score, merge->merged, symbol.id, right_id, left});
  std::push_heap(scratch.heap.begin(), scratch.heap.end(), Scratch::worse);
}

void ScoreBpe::encode(std::string_view text, const std::array<int32_t, 256>& byte_ids,
                      std::vector<int32_t>& out) const {
  Scratch scratch;
  for (size_t at = 0; at < text.size();) {
    if (word_by_word_ && text[at] == ' ' && at > 0 && text[at - 1] != ' ') {
      merge(scratch, out);
      scratch.ids.clear();
    }
    const auto decoded = utf8_decode(text.substr(at));
    SEPLLM_CHECK(decoded.has_value());
    const std::string_view character = text.substr(at, static_cast<size_t>(decoded->length));
    const int32_t id = find(character);
    if (id >= 0) {
      scratch.ids.push_back(id);
    } else {
      for (const unsigned char byte : character) scratch.ids.push_back(byte_ids[byte]);
    }
    at += character.size();
  }
  merge(scratch, out);
}

void ScoreBpe::merge(Scratch& scratch, std::vector<int32_t>& out) const {
  const std::vector<int32_t>& ids = scratch.ids;
  std::vector<Scratch::Symbol>& symbols = scratch.symbols;
  const auto n = static_cast<int64_t>(ids.size());
  symbols.clear();
  scratch.heap.clear();
  for (int64_t k = 0; k < n; ++k) {
    symbols.push_back({ids[static_cast<size_t>(k)], k - 1, k + 1 < n ? k + 1 : -1});
  }
  for (int64_t k = 0; k + 1 < n; ++k) push(scratch, k);
  while (!scratch.heap.empty()) {
    std::pop_heap(scratch.heap.begin(), scratch.heap.end(), Scratch::worse);
    const Scratch::Candidate best = scratch.heap.back();
    scratch.heap.pop_back();
    Scratch::Symbol& left = symbols[static_cast<size_t>(best.left)];
    // A candidate is stale after a neighbour has taken one of its halves: ids only change by growing.
    if (left.id != best.left_id || left.next < 0) continue;
    Scratch::Symbol& right = symbols[static_cast<size_t>(left.next)];
    if (right.id != best.right_id) continue;
    left.id = best.merged;
    left.next = right.next;
    right.id = -1;  // now part of the left symbol
    if (left.next >= 0) symbols[static_cast<size_t>(left.next)].previous = best.left;
    push(scratch, left.previous);
    push(scratch, best.left);
  }
  for (int64_t k = 0; k >= 0 && k < n; k = symbols[static_cast<size_t>(k)].next) {
    out.push_back(symbols[static_cast<size_t>(k)].id);
  }
}

}  // namespace sepllm
