// The two merging loops of BPE.
#include <algorithm>
#include <climits>

#include "base/error.h"
#include "text/bpe_model.h"

namespace sepllm {
namespace {

constexpr Merge kNoMerge{INT_MAX, -1};

Merge merge_of(const MergeTable& table, int32_t left, int32_t right) {
  const Merge* merge = table.find(left, right);
  return merge == nullptr ? kNoMerge : *merge;
}

// Heap order: the lowest rank on top, the leftmost one first among equals.
bool comes_later(const BpeScratch::Candidate& a, const BpeScratch::Candidate& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.at > b.at;
}

class LongMerger {
 public:
  LongMerger(const MergeTable& table, BpeScratch& s) : table_(table), s_(s) {}

  void run() {
    link();
    while (!s_.heap.empty()) {
      std::pop_heap(s_.heap.begin(), s_.heap.end(), comes_later);
      const BpeScratch::Candidate top = s_.heap.back();
      s_.heap.pop_back();
      apply(top);
    }
    std::erase_if(s_.symbols, [](int32_t id) { return id < 0; });
  }

 private:
  void link() {
    const auto n = static_cast<int32_t>(s_.symbols.size());
    s_.previous.resize(s_.symbols.size());
    s_.next.resize(s_.symbols.size());
    s_.heap.clear();
    for (int32_t k = 0; k < n; ++k) {
      s_.previous[index(k)] = k - 1;
      s_.next[index(k)] = k + 1 < n ? k + 1 : -1;
      if (k + 1 < n) consider(k, k + 1, false);
    }
    std::make_heap(s_.heap.begin(), s_.heap.end(), comes_later);
  }

  void consider(int32_t left, int32_t right, bool keep_order) {
    const int32_t a = s_.symbols[index(left)];
    const int32_t b = s_.symbols[index(right)];
    const Merge* merge = table_.find(a, b);
    if (merge == nullptr) return;
    s_.heap.push_back({merge->rank, left, a, b});
    if (keep_order) std::push_heap(s_.heap.begin(), s_.heap.end(), comes_later);
  }

  void apply(const BpeScratch::Candidate& c) {
    const int32_t right = s_.next[index(c.at)];
    const bool still_there =
        s_.symbols[index(c.at)] == c.left && right >= 0 && s_.symbols[index(right)] == c.right;
    if (!still_there) return;
    const int32_t after = s_.next[index(right)];
    s_.symbols[index(c.at)] = table_.find(c.left, c.right)->result;
    s_.symbols[index(right)] = -1;
    s_.next[index(c.at)] = after;
    if (after >= 0) s_.previous[index(after)] = c.at;
    if (s_.previous[index(c.at)] >= 0) consider(s_.previous[index(c.at)], c.at, true);
    if (after >= 0) consider(c.at, after, true);
  }

  static size_t index(int32_t k) { return static_cast<size_t>(k); }

  const MergeTable& table_;
  BpeScratch& s_;
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
