#include "text/corpus/bpe_trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <queue>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/byte_alphabet.h"
#include "base/check.h"
#include "base/error.h"
#include "base/utf8.h"

namespace sepllm {
namespace {

using Pair = std::pair<int32_t, int32_t>;

// The state of a pair of neighbours: how often it occurs, and in which words it has appeared since it was
// last queued.
struct PairState {
  int64_t count = 0;
  std::vector<uint32_t> words;
};

// A hash table with open addressing in one flat array; entries are never removed.
class PairTable {
 public:
  // The reference is valid until the next call.
  PairState& at(Pair pair) {
    if (2 * (size_ + 1) > entries_.size()) grow();
    Entry& entry = entries_[slot_of(key_of(pair))];
    if (entry.key == kFree) {
      entry.key = key_of(pair);
      ++size_;
    }
    return entry.state;
  }
  template <typename Visit>
  void for_each(const Visit& visit) {
    for (Entry& entry : entries_) {
      if (entry.key != kFree) {
        visit(Pair(static_cast<int32_t>(entry.key >> 32), static_cast<int32_t>(entry.key)), entry.state);
      }
    }
  }

 private:
  struct Entry {
    uint64_t key = kFree;
    PairState state;
  };
  static constexpr uint64_t kFree = ~uint64_t{0};

  static uint64_t key_of(Pair pair) {
    return static_cast<uint64_t>(static_cast<uint32_t>(pair.first)) << 32 |
           static_cast<uint32_t>(pair.second);
  }
  size_t slot_of(uint64_t key) const {
    uint64_t hash = key * 0x9E3779B97F4A7C15u;
    hash = (hash ^ hash >> 29) * 0xBF58476D1CE4E5B9u >> 20;
    const size_t mask = entries_.size() - 1;
    size_t slot = static_cast<size_t>(hash) & mask;
    while (entries_[slot].key != key && entries_[slot].key != kFree) slot = (slot + 1) & mask;
    return slot;
  }
  void grow() {
    std::vector<Entry> old(2 * entries_.size());
    old.swap(entries_);
    for (Entry& entry : old) {
      if (entry.key != kFree) entries_[slot_of(entry.key)] = std::move(entry);
    }
  }

  std::vector<Entry> entries_ = std::vector<Entry>(1 << 12);
  size_t size_ = 0;
};

// A pair to join, with the count that it had when it was queued.
struct PairCandidate {
  int64_t count;
  Pair pair;
  uint32_t words;  // index of the list of words to look at

  // The greatest candidate is the one to take first.
  bool operator<(const PairCandidate& other) const {
    if (count != other.count) return count < other.count;
    if (pair != other.pair) return pair > other.pair;
    return words > other.words;
  }
};

class Trainer {
 public:
  Trainer(std::span<const CountedWord> words, const BpeTrainOptions& options) : options_(options) {
    add_base_pieces();
    add_words(words);
  }

  TrainedBpe run(FunctionRef<bool(int64_t n_pieces)> go_on) {
    pairs_.for_each([&](Pair pair, PairState& state) { enqueue(pair, state); });
    while (n_pieces() < options_.vocab_size && !queue_.empty()) {
      PairCandidate best = queue_.top();
      queue_.pop();
      const int64_t count = pairs_.at(best.pair).count;
      // other merges have taken some of it, so it is queued again with its new count
      if (best.count != count) {
        best.count = count;
        if (count > 0) queue_.push(best);
        continue;
      }
      if (count < options_.min_frequency) break;
      join(best);
      constexpr int64_t kReportEvery = 64;
      if (n_pieces() % kReportEvery == 0 && !go_on(n_pieces())) {
        throw Error(ErrorCode::kInvalidArgument, "interrupted: nothing was written");
      }
    }
    return {std::move(pieces_), std::move(merges_), options_.specials};
  }

 private:
  int64_t n_pieces() const { return static_cast<int64_t>(pieces_.size()); }

  int32_t id_of(const std::string& piece) {
    const auto [it, is_new] = ids_.try_emplace(piece, static_cast<int32_t>(pieces_.size()));
    if (is_new) pieces_.push_back(piece);
    return it->second;
  }

  void add_base_pieces() {
    for (const std::string& special : options_.specials) id_of(special);
    std::vector<char32_t> characters(byte_alphabet().begin(), byte_alphabet().end());
    std::sort(characters.begin(), characters.end());
    for (const char32_t c : characters) {
      std::string piece;
      utf8_append(piece, c);
      id_of(piece);
    }
  }

  void add_words(std::span<const CountedWord> words) {
    int32_t byte_ids[256];
    for (size_t byte = 0; byte < 256; ++byte) {
      std::string piece;
      utf8_append(piece, byte_alphabet()[byte]);
      byte_ids[byte] = id_of(piece);
    }
    SEPLLM_CHECK(words.size() < UINT32_MAX);
    for (const CountedWord& word : words) {
      begins_.push_back(ids_of_words_.size());
      sizes_.push_back(static_cast<uint32_t>(word.bytes.size()));
      counts_.push_back(word.count);
      for (const char byte : word.bytes) ids_of_words_.push_back(byte_ids[static_cast<unsigned char>(byte)]);
      const int32_t* ids = ids_of_words_.data() + begins_.back();
      for (size_t i = 1; i < word.bytes.size(); ++i) {
        change({ids[i - 1], ids[i]}, word.count, static_cast<uint32_t>(counts_.size() - 1));
      }
    }
    touched_.clear();  // all pairs are new
  }

  // Records that a pair occurs `by` times more (or less) in a word.
  void change(Pair pair, int64_t by, uint32_t word) {
    PairState& state = pairs_.at(pair);
    state.count += by;
    if (by < 0) return;
    if (state.words.empty()) touched_.push_back(pair);
    if (state.words.empty() || state.words.back() != word) state.words.push_back(word);
  }

  void enqueue(Pair pair, PairState& state) {
    if (state.count > 0) {
      queue_.push({state.count, pair, static_cast<uint32_t>(lists_.size())});
      lists_.push_back(std::move(state.words));
    }
    state.words = {};
  }

  void join(const PairCandidate& best) {
    const int32_t joined =
        id_of(pieces_[static_cast<size_t>(best.pair.first)] + pieces_[static_cast<size_t>(best.pair.second)]);
    merges_.push_back(best.pair);
    const std::vector<uint32_t> words = std::move(lists_[best.words]);
    lists_[best.words] = {};
    for (const uint32_t word : words) join_in_word(word, best.pair, joined);
    for (const Pair& pair : touched_) enqueue(pair, pairs_.at(pair));
    touched_.clear();
  }

  // Goes from left to right, so that the neighbour before a place is already joined where it can be.
  void join_in_word(uint32_t word, Pair pair, int32_t joined) {
    int32_t* ids = ids_of_words_.data() + begins_[word];
    const uint32_t size = sizes_[word];
    const int64_t count = counts_[word];
    uint32_t to = 0;
    for (uint32_t from = 0; from < size; ++to) {
      if (from + 1 == size || ids[from] != pair.first || ids[from + 1] != pair.second) {
        ids[to] = ids[from++];
        continue;
      }
      if (to > 0) {
        change({ids[to - 1], pair.first}, -count, word);
        change({ids[to - 1], joined}, count, word);
      }
      from += 2;
      ids[to] = joined;
      if (from < size) {
        change({pair.second, ids[from]}, -count, word);
        change({joined, ids[from]}, count, word);
      }
    }
    sizes_[word] = to;
  }

  const BpeTrainOptions& options_;
  std::vector<std::string> pieces_;
  std::unordered_map<std::string, int32_t> ids_;
  std::vector<Pair> merges_;

  // The ids of all words, one after the other; each word shrinks in its place.
  std::vector<int32_t> ids_of_words_;
  std::vector<size_t> begins_;
  std::vector<uint32_t> sizes_;
  std::vector<int64_t> counts_;

  PairTable pairs_;
  std::vector<Pair> touched_;  // pairs with words that are not yet queued
  std::priority_queue<PairCandidate> queue_;
  std::vector<std::vector<uint32_t>> lists_;  // the words of queued pairs
};

void check_options(const BpeTrainOptions& options) {
  std::set<std::string> seen;
  for (const std::string& special : options.specials) {
    const char* wrong = special.empty()                ? "empty"
                        : utf8_find_invalid(special)   ? "not valid UTF-8"
                        : !seen.insert(special).second ? "there twice"
                                                       : nullptr;
    if (wrong == nullptr) continue;
    throw Error(ErrorCode::kInvalidArgument, fmt::format("a special token is {}", wrong), {.got = special});
  }
  const auto least = static_cast<int64_t>(256 + options.specials.size());
  if (options.vocab_size < least || options.vocab_size > INT32_MAX) {
    throw Error(ErrorCode::kInvalidArgument, "wrong size of the vocabulary",
                {.expected = fmt::format("at least {}: 256 bytes and the special tokens", least),
                 .got = std::to_string(options.vocab_size)});
  }
}

}  // namespace

TrainedBpe train_bpe(std::span<const CountedWord> words, const BpeTrainOptions& options,
                     FunctionRef<bool(int64_t n_pieces)> go_on) {
  check_options(options);
  return Trainer(words, options).run(go_on);
}

}  // namespace sepllm
