// One task of attention(), in the form that the vector kernels take.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numbers>
#include <span>

#include "base/check.h"
#include "kernels/attention/attention.h"

namespace sepllm {

// Number of keys that a kernel takes at a time, so that K and V of a tile stay in cache.
inline constexpr int64_t kAttentionKeyTile = 192;
// The same for narrow tiles (see below) in the forward pass, where each query sees only few keys of a window.
inline constexpr int64_t kAttentionNarrowKeyTile = 384;
// Maximum number of parts of spans in a block of keys.
inline constexpr int64_t kAttentionBlockSegments = 8;
// Approximate number of query rows times heads that share a pass over the keys.
inline constexpr int64_t kAttentionTileLanes = 256;
// Results of a call of at least this many bytes are no longer in cache when they are read.
inline constexpr int64_t kAttentionStreamBytes = int64_t{4} << 20;
// The same for queries that see at most kAttentionNarrowWindow keys in addition to the compact ones: every
// tile reads its window again, but fewer of its keys are seen by only some queries.
inline constexpr int64_t kAttentionNarrowTileLanes = 128;
inline constexpr int64_t kAttentionNarrowWindow = 512;
// With up to this many lanes, vectors run along the head dimension; with more, along the queries.
inline constexpr int64_t kAttentionFewLanes = 8;

inline constexpr float kLowest = -1e30F;  // the largest score as long as no key has been seen
inline constexpr float kMasked = -3e38F;  // a score whose weight is zero

// Elements between the key rows of a tile: one of a few constants for which there are kernels.
inline int64_t attention_tile_stride(int64_t head_dim) {
  for (const int64_t stride : {64, 128, 256}) {
    if (head_dim <= stride) return stride;
  }
  return (head_dim + 15) / 16 * 16;
}

// Takes arrays one after the other from scratch memory, each on its own cache line. Without memory it only
// counts: running a kernel's layout() over such a Carver gives the scratch size that it needs.
class Carver {
 public:
  Carver() = default;
  explicit Carver(std::span<float> memory) : memory_(memory), measures_(false) {}
  float* floats(int64_t n) {
    const int64_t at = used_;
    used_ += (n + 15) / 16 * 16;
    if (measures_) return nullptr;
    SEPLLM_CHECK(used_ <= std::ssize(memory_));
    return memory_.data() + at;
  }
  int32_t* ints(int64_t n) { return reinterpret_cast<int32_t*>(floats(n)); }
  int64_t used() const { return used_; }  // floats, whole cache lines

 private:
  std::span<float> memory_{};
  bool measures_ = true;
  int64_t used_ = 0;
};

// A query: a row of a sequence and a query head.
struct QueryLane {
  int32_t row, head;
};

// Some rows of a sequence, some heads that read the same kv head, and some of the keys.
struct AttentionTask {
  const AttentionArgs* args;
  const AttentionSequence* sequence;
  std::span<const KeySpan> spans;  // the spans of those rows and heads
  int64_t row, n_rows;             // rows of the sequence
  int64_t head, n_heads;           // query heads [head, head + n_heads), all of one kv head
  // Null, or n_rows queries from anywhere, ascending in their rows, which take the place of the rows; then
  // n_heads is 1. Their heads all read the kv head of `head`.
  const QueryLane* gathered;
  // a range among the keys that any of the rows sees, counted through the spans
  int64_t key_begin, key_end;
  // Null: the result goes to the output. Otherwise, for row r and head h of the task at partial + (r *
  // partial_heads + h) * (head_dim + 2): the unnormalised sums [head_dim], the largest score (times log2 e)
  // and the sum of the weights. (Gathered queries count r and h from `row` and `head`.)
  float* partial;
  int64_t partial_heads;
  bool continues;      // the keys join those of earlier tasks, whose partial results are there already
  bool stream_output;  // the output is written past the caches
  // Null, or the task that this worker is likely to get next: its rows are prefetched.
  const AttentionTask* next;
  std::span<float> scratch;  // attention_*_scratch() floats, 64-byte aligned

  int64_t lanes() const { return n_rows * n_heads; }
  int64_t kv_head() const { return head / args->group(); }
  // Row r and head h of the task, in heads with the layout of the queries or the output.
  float* at(const Heads& x, int64_t r, int64_t h) const {
    return x.at(sequence->batch, sequence->first_row + row_of(r),
                gathered != nullptr ? gathered[r].head : head + h);
  }
  // The row of the sequence that row r of the task is.
  int64_t row_of(int64_t r) const { return gathered != nullptr ? gathered[r].row : row + r; }
  const float* query(bool second, int64_t r, int64_t h) const {
    return at(second && args->second_q.data != nullptr ? args->second_q : args->q, r, h);
  }
  float* output(int64_t r, int64_t h) const { return at(args->out, r, h); }
  float* partial_at(int64_t r, int64_t h) const {
    if (gathered != nullptr) h = gathered[r].head - head, r = gathered[r].row - row;
    return partial + (r * partial_heads + h) * (args->head_dim() + 2);
  }
  float* log_sum_exp(int64_t r, int64_t h) const { return at(args->log_sum_exp, r, h); }
  int64_t position(int64_t r) const { return sequence->first_position + row_of(r); }
  // The place of the query for ALiBi, for keys of spans with or without second_query.
  int64_t place(bool second, int64_t r) const {
    const bool other = second && sequence->second_encoded != nullptr;
    return (other ? sequence->second_encoded : sequence->encoded)[row_of(r)];
  }
  bool needs_second_query() const {
    if (args->second_q.data == nullptr) return false;
    return std::any_of(spans.begin(), spans.end(), [](const KeySpan& s) { return s.second_query; });
  }
  // Scores are kept multiplied by log2 e, because the softmax works with powers of two.
  float score_scale() const { return static_cast<float>(args->scale * std::numbers::log2e); }
  float slope(int64_t r, int64_t h) const {
    const int64_t of = gathered != nullptr ? gathered[r].head : head + h;
    return static_cast<float>(args->alibi_slopes[of] * std::numbers::log2e);
  }
};

// The keys that any of the rows at positions [first, last] sees: the bounds of a row's range grow with its
// position.
inline KeySpan::Range range_of_rows(const KeySpan& span, int64_t first, int64_t last) {
  return {span.range(first).lo, span.range(last).hi};
}

// Calls fn(span, lo, hi) for the keys of the task in each span.
template <typename Fn>
void for_each_range(const AttentionTask& t, const Fn& fn) {
  int64_t before = 0;
  for (const KeySpan& span : t.spans) {
    const auto [lo, hi] = range_of_rows(span, t.position(0), t.position(t.n_rows - 1));
    const int64_t begin = std::max(lo, lo + t.key_begin - before);
    const int64_t end = std::min(hi, lo + t.key_end - before);
    before += std::max<int64_t>(0, hi - lo);
    if (begin < end) fn(span, begin, end);
  }
}

// For any number of lanes, fast for many: vectors run along the queries.
void attention_many(const AttentionTask& t);
int64_t attention_many_scratch(int64_t head_dim, int64_t lanes);  // floats, for at most this many lanes
// For at most kAttentionFewLanes lanes: vectors run along the head dimension. It computes no log_sum_exp, and
// does not stream the output (checked).
void attention_few(const AttentionTask& t);
int64_t attention_few_scratch(int64_t head_dim);

// For one row and head whose keys were split: computes out[head_dim] from the partial results of its splits
// (see AttentionTask::partial), which lie `step` floats apart.
void combine_splits(const float* partials, int64_t step, int64_t n_splits, int64_t head_dim, float* out);

}  // namespace sepllm
