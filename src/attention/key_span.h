// Keys that lie densely in memory, and which of them a query sees. Kernels loop over spans and know neither
// policies nor caches: any code that chooses keys can be a source of spans.
#pragma once

#include <algorithm>
#include <cstdint>

#include "attention/pattern.h"

namespace sepllm {

// Keys (and values) of one sequence in one layer. Rows are ascending in position, so that what one query sees
// is one range of rows: [lo, hi).
struct KeySpan {
  enum class Kind {
    kBand,    // consecutive positions: key row r is at first_position + r
    kCompact  // chosen positions: key row r is at positions[r]
  };
  Kind kind = Kind::kBand;
  const void* k = nullptr;  // key row 0 of kv head 0; values are laid out in the same way
  const void* v = nullptr;
  int64_t slot_stride = 0;  // elements between consecutive keys of a head
  int64_t head_stride = 0;  // elements between kv heads
  int64_t n_keys = 0;
  // Only for int8 keys and values: the factors (>= 0) of the elements of each row. The scale of
  // key row j and kv head h is k_scales[h * scale_head_stride + j]; values have theirs in the same way.
  const float* k_scales = nullptr;
  const float* v_scales = nullptr;
  int64_t scale_head_stride = 0;

  int64_t first_position = 0;          // only for a band
  const int64_t* positions = nullptr;  // [n_keys]; only for a compact span
  // Query i sees the keys with position <= i - lag and position > i - window. lag >= 0: no query sees its
  // future.
  int64_t lag = 0;
  int64_t window = kUnlimited;

  // The place of each key for the position encoding (ALiBi's distance): encoded[r], or first_encoded + r
  // where `encoded` is null. It differs from the position where places are slots of the cache.
  const int64_t* encoded = nullptr;
  int64_t first_encoded = 0;
  // Towards these keys, queries use their second encoding (sink-stream rotates queries twice).
  bool second_query = false;
  // For a backward pass: the row of the gradient sums (among those of AttentionSequence::keys) that key row 0
  // adds to; the rows after it add to the next ones.
  int64_t gradient_row = 0;

  struct Range {
    int64_t lo, hi;
    int64_t size() const { return hi - lo; }
  };
  // The rows that the query at stream position i sees.
  Range range(int64_t i) const {
    const int64_t lo = rows_up_to(i - window);
    return {lo, std::max(lo, rows_up_to(i - lag))};
  }
  // The same as range(i), but faster: starts from `before`, the range of an earlier query, and needs no
  // search.
  Range next_range(const Range& before, int64_t i) const {
    if (kind == Kind::kBand) return range(i);
    Range next = before;
    while (next.lo < n_keys && positions[next.lo] <= i - window) ++next.lo;
    next.hi = std::max(next.hi, next.lo);
    while (next.hi < n_keys && positions[next.hi] <= i - lag) ++next.hi;
    return next;
  }
  int64_t position(int64_t r) const { return kind == Kind::kCompact ? positions[r] : first_position + r; }
  int64_t encoded_at(int64_t r) const { return encoded != nullptr ? encoded[r] : first_encoded + r; }

 private:
  // Number of rows with position <= p.
  int64_t rows_up_to(int64_t p) const {
    if (kind == Kind::kCompact) return std::upper_bound(positions, positions + n_keys, p) - positions;
    return std::clamp<int64_t>(p - first_position + 1, 0, n_keys);
  }
};

}  // namespace sepllm
