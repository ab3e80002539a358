// Whether a run fits the memory at hand, asked before it takes any. An Error only where a run cannot fit,
// swap included; a warning with the figures where it is tight.
#pragma once

#include <cstdint>
#include <string>

#include "attention/policy.h"
#include "base/memory_at_hand.h"
#include "engine/model.h"

namespace sepllm {

// Tokens of a stream, as far as they are known.
struct RunLength {
  int64_t certain = 0;   // will be fed in any case
  int64_t possible = 0;  // at most, where there is a bound: an answer may end earlier
};

// Before the weights are read: Error (kOutOfRange) where those in memory of their own (converted, or made)
// and the cache of the tokens that are certain are more than memory and swap. Mapped weights never are: their
// pages can be dropped and read again. A warning where all weights are more than the memory: then they are
// read from the disk again and again, or swapped. `name`: of the model, for the message.
void check_weights_fit(const std::string& name, const ModelConfig& config, const WeightMemory& weights,
                       const PolicySettings& settings, const RunLength& length, const MemoryAtHand& at_hand);

// Before the first token, with the weights in place: the same for the cache. The warning is for a cache that,
// where it grows as long as is possible, pushes mapped weights out or is swapped.
void check_cache_fits(const Model& model, const PolicySettings& settings, const RunLength& length,
                      const MemoryAtHand& at_hand);

// "3.4 GiB", "3.4 GiB, 5.4 GiB with swap and reserves", "unknown".
std::string memory_text(const MemoryAtHand& at_hand);

// For the hint of an Error about memory: what to do where the system's figures are wrong.
std::string memory_hint();

}  // namespace sepllm
