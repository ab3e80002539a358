// The order in which a thread reads weights that come from memory, where a product has few rows.
#pragma once

#include <cstdint>

namespace sepllm {

// How many places are read at a time, and how far ahead of each the program fetches. Which walk is fast is a
// property of the machine: the best on one is half as fast as the best on another (docs/PERFORMANCE.md). So
// it is measured (kernels/linear/walk_probe.h); these are the values for machines where nobody did. All walks
// of a kernel add in the same order: results have the same bits.
struct Walk {
  int streams = 4;   // 1, 2, 4 or 8; they begin that part of the matrix apart
  int ahead = 2048;  // bytes; 0: only the processor's own prefetchers fetch

  bool operator==(const Walk&) const = default;
};

inline constexpr int kMostStreams = 8;

}  // namespace sepllm
