// The two merging loops of BPE.
#include <algorithm>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "base/error.h"
#include "text/bpe/bpe_model.h"

namespace sepllm {
namespace {

constexpr Merge kNoMerge{INT_MAX, -1};

Merge merge_of(const MergeTable& table, int32_t left, int32_t right) {
  const Merge* merge = table.find(left, right);
  return merge == nullptr ? kNoMerge : *merge;
}

// A place where two symbols may join, and what they were when the place was found.
struct Candidate {
  int32_t at;  // index of the left symbol
  int32_t left, right;
};

// The candidates of one rank, leftmost first. Nearly all of them arrive in order, so taking them out walks
// along a list; one heap for all of a long word would miss the cache at every step.
class Bucket {
 public:
  void add(const Candidate& c) {
    if (run_.empty() || c.at >= run_.back().at) {
      run_.push_back(c);
    } else {
      late_.push_back(c);
      std::push_heap(late_.begin(), late_.end(), further_right);
    }
  }
  bool empty() const { return taken_ == run_.size() && late_.empty(); }
  Candidate take() {
    const bool from_run = late_.empty() || (taken_ < run_.size() && run_[taken_].at <= late_.front().at);
    if (from_run) return run_[taken_++];
    std::pop_heap(late_.begin(), late_.end(), further_right);
    const Candidate c = late_.back();
    late_.pop_back();
    return c;
  }

 private:
  static bool further_right(const Candidate& a, const Candidate& b) { return a.at > b.at; }

  std::vector<Candidate> run_;  // ascending
  size_t taken_ = 0;
  std::vector<Candidate> late_;  // heap
};

class LongMerger {
 public:
  LongMerger(const MergeTable& table, BpeScratch& s) : table_(table), s_(s) {}

  void run() {
    link();
    while (!buckets_.empty()) {
      const auto lowest = buckets_.begin();
      const Candidate c = lowest->second.take();
      if (lowest->second.empty()) buckets_.erase(lowest);
      apply(c);
    }
    std::erase_if(s_.symbols, [](int32_t id) { return id < 0; });
  }

 private:
  void link() {
    const auto n = static_cast<int32_t>(s_.symbols.size());
    s_.previous.resize(s_.symbols.size());
    s_.next.resize(s_.symbols.size());
    for (int32_t k = 0; k < n; ++k) {
      s_.previous[index(k)] = k - 1;
      s_.next[index(k)] = k + 1 < n ? k + 1 : -1;
      if (k + 1 < n) consider(k, k + 1);
    }
  }

  void consider(int32_t left, int32_t right) {
    const int32_t a = s_.symbols[index(left)];
    const int32_t b = s_.symbols[index(right)];
    const Merge* merge = table_.find(a, b);
    if (merge != nullptr) buckets_[merge->rank].add({left, a, b});
  }

  void apply(const Candidate& c) {
    const int32_t right = s_.next[index(c.at)];
    const bool still_there =
        s_.symbols[index(c.at)] == c.left && right >= 0 && s_.symbols[index(right)] == c.right;
    if (!still_there) return;
    const int32_t after = s_.next[index(right)];
    s_.symbols[index(c.at)] = table_.find(c.left, c.right)->result;
    s_.symbols[index(right)] = -1;
    s_.next[index(c.at)] = after;
    if (after >= 0) s_.previous[index(after)] = c.at;
    if (s_.previous[index(c.at)] >= 0) consider(s_.previous[index(c.at)], c.at);
    if (after >= 0) consider(c.at, after);
  }

  static size_t index(int32_t k) { return static_cast<size_t>(k); }

  const MergeTable& table_;
  BpeScratch& s_;
  std::map<int32_t, Bucket> buckets_;  // by rank
};

}  // namespace

void merge_short(const MergeTable& table, std::vector<int32_t>& symbols, std::vector<Merge>& merges) {
  size_t n = symbols.size();
  if (n < 2) return;
  merges.resize(n - 1);
  for (size_t k = 0; k + 1 < n; ++k) merges[k] = merge_of(table, symbols[k], symbols[k + 1]);
  while (n > 1) {
    size_t best = 0;
    for (size_t k = 1; k + 1 < n; ++k) {
      if (merges[k].rank < merges[best].rank) best = k;
    }
    if (merges[best].rank == INT_MAX) break;
    symbols[best] = merges[best].result;
    std::copy(symbols.begin() + static_cast<ptrdiff_t>(best) + 2, symbols.begin() + static_cast<ptrdiff_t>(n),
              symbols.begin() + static_cast<ptrdiff_t>(best) + 1);
    std::copy(merges.begin() + static_cast<ptrdiff_t>(best) + 1,
              merges.begin() + static_cast<ptrdiff_t>(n) - 1, merges.begin() + static_cast<ptrdiff_t>(best));
    --n;
    if (best > 0) merges[best - 1] = merge_of(table, symbols[best - 1], symbols[best]);
    if (best + 1 < n) merges[best] = merge_of(table, symbols[best], symbols[best + 1]);
  }
  symbols.resize(n);
}

void merge_long(const MergeTable& table, BpeScratch& scratch) {
  if (scratch.symbols.size() >= static_cast<size_t>(INT_MAX)) {
    throw Error(ErrorCode::kOutOfRange, "a single word of the text is too long",
                {.expected = "less than 2^31 characters"});
  }
  LongMerger(table, scratch).run();
}

}  // namespace sepllm
