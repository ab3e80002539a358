// The walks (tensor/walk.h) that are tried on a machine, and which of them is taken.
#pragma once

#include <span>

#include "tensor/walk.h"

namespace sepllm {

// The walks that are tried, the default one first.
std::span<const Walk> candidate_walks();

struct WalkRate {
  Walk walk;
  double bytes_per_second = 0;
};

// The best of them, which are in the order of candidate_walks(). The default walk where no other is at least
// 2 % faster: a difference that small is noise.
WalkRate fastest_walk(std::span<const WalkRate> rates);

}  // namespace sepllm
