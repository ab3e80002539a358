// How the keys of a tile are read where attention is limited by memory: in four streams that begin a quarter
// of the tile apart. One stream keeps too few reads in flight, and adjacent rows, which lie in one page,
// count as one. Compiled once per instruction set: include after foreach_target.h.
#if defined(SEPLLM_KERNELS_ATTENTION_STREAMS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEPLLM_KERNELS_ATTENTION_STREAMS_INL_H_
#undef SEPLLM_KERNELS_ATTENTION_STREAMS_INL_H_
#else
#define SEPLLM_KERNELS_ATTENTION_STREAMS_INL_H_
#endif

#include <hwy/cache_control.h>

#include <algorithm>
#include <cstdint>

#include "kernels/prefetch.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sepllm {
namespace HWY_NAMESPACE {

inline constexpr int64_t kStreams = 4;
inline constexpr int64_t kAheadBytes = 2048;  // how far ahead each stream is prefetched

// Keys [key, key + n) of a span, for one kv head.
template <typename T>
struct FewTile {
  const T* k;  // row `key`
  const T* v;
  int64_t stride;
  int64_t key, n;
  int64_t quarter;  // keys of a stream; the last stream may have fewer

  bool first;             // the first tile of its task
  const float* k_scales;  // for int8: the scales of its keys, else null
  const float* v_scales;

  int64_t n_scores() const { return kStreams * quarter; }
};

// One row of each stream of a tile. Beyond the last key, the last key is used again; its weight will be zero.
template <typename T>
struct StreamRows {
  const T* row[kStreams];
  const T* last;

  StreamRows(const FewTile<T>& tile, const T* rows) : last(rows + (tile.n - 1) * tile.stride) {
    for (int64_t s = 0; s < kStreams; ++s) row[s] = std::min(rows + s * tile.quarter * tile.stride, last);
  }
  void advance(int64_t stride) {
    for (const T*& r : row) r = std::min(r + stride, last);
  }
};

// Prefetches along the streams. The program knows the order in which rows are read further ahead than the
// processor can guess: the streams of K, those of V, those of the next tile's K. Without this, multiplying
// and reading overlap less and take turns more.
template <typename T>
class StreamPrefetch {
 public:
  // Used while `tile` is walked, for its K or V; if `n` of `next` is not 0, the rows `next_rows` follow.
  StreamPrefetch(int64_t head_dim, const FewTile<T>& tile, const FewTile<T>& next, const T* next_rows)
      : next_(next, next_rows),
        bytes_(head_dim * static_cast<int64_t>(sizeof(T))),
        ahead_(std::max<int64_t>(1, kAheadBytes / bytes_)),
        stride_(tile.stride),
        next_stride_(next.stride),
        left_(tile.quarter - ahead_),
        has_next_(next.n > 0) {}

  // Prefetches for the first steps, before which there is no other step.
  void begin(const FewTile<T>& tile, const T* rows) const {
    StreamRows<T> ahead(tile, rows);
    for (int64_t i = 0; i < std::min(ahead_, tile.quarter); ++i) {
      for (const T* row : ahead.row) fetch(row);
      ahead.advance(stride_);
    }
  }
  // Called before the rows of a step are read.
  HWY_INLINE void step(const StreamRows<T>& now) {
    if (left_-- > 0) {
      for (const T* row : now.row) fetch(row + ahead_ * stride_);
    } else if (has_next_) {
      for (const T* row : next_.row) fetch(row);
      next_.advance(next_stride_);
    }
  }

 private:
  HWY_INLINE void fetch(const T* row) const {
    const auto* p = reinterpret_cast<const char*>(row);
    for (int64_t b = 0; b < bytes_; b += kCacheLine) hwy::Prefetch(p + b);
  }
  StreamRows<T> next_;
  int64_t bytes_, ahead_, stride_, next_stride_, left_;
  bool has_next_;
};

// Prefetches the scales of the next tile, one line for as many keys; called before step i.
template <typename T>
HWY_INLINE void prefetch_scales(const FewTile<T>& next, int64_t i) {
  constexpr int64_t kKeys = kCacheLine / static_cast<int64_t>(sizeof(float));
  const int64_t key = i * kStreams;
  if (next.k_scales == nullptr || key % kKeys != 0 || key >= next.n) return;
  hwy::Prefetch(next.k_scales + key);
  hwy::Prefetch(next.v_scales + key);
}

}  // namespace HWY_NAMESPACE
}  // namespace sepllm
HWY_AFTER_NAMESPACE();

#endif
