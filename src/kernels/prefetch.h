// Prefetches rows that will be needed soon into the second-level cache, bit by bit between pieces of
// arithmetic. A head's rows in a fused QKV lie kilobytes apart: no hardware prefetcher finds them, and each
// would cost the latency of memory.
#pragma once

#include <cstdint>

namespace sepllm {

inline constexpr int64_t kCacheLine = 64;

// Prefetches one row into the second-level cache.
inline void prefetch_row(const void* row, int64_t bytes) {
  const auto* at = static_cast<const char*>(row);
  for (const char* end = at + bytes; at < end; at += kCacheLine) __builtin_prefetch(at, 0, 2);
}

class RowPrefetcher {
 public:
  void clear() { n_ = next_ = 0; }
  // Adds rows of `bytes` bytes that lie `stride` bytes apart. Beyond kMost entries they are ignored, because
  // prefetching is only a hint.
  void add(const void* rows, int64_t stride, int64_t n_rows, int64_t bytes) {
    if (n_ == kMost || n_rows <= 0) return;
    const auto* row = static_cast<const char*>(rows);
    entries_[n_++] = {row, row + n_rows * stride, stride, bytes};
  }
  // Prefetches whole rows, at least `bytes` bytes if there are as many; false if none are left.
  bool step(int64_t bytes) {
    while (next_ < n_) {
      Entry& e = entries_[next_];
      while (e.row != e.end) {
        if (bytes <= 0) return true;
        prefetch_row(e.row, e.bytes);
        e.row += e.stride;
        bytes -= e.bytes;
      }
      ++next_;
    }
    return false;
  }

 private:
  static constexpr int kMost = 24;
  struct Entry {
    const char* row;
    const char* end;
    int64_t stride, bytes;
  };
  Entry entries_[kMost];
  int n_ = 0;
  int next_ = 0;
};

// The rows that a tile prefetches: first its own next keys, then the rows of the tile after it.
struct TilePrefetcher {
  int64_t bytes_at_a_time = 640;  // every ten thousand multiply-adds or so
  RowPrefetcher keys, next_tile;
  void step() {
    if (!keys.step(bytes_at_a_time)) next_tile.step(bytes_at_a_time);
  }
};

}  // namespace sepllm
