// Checks whether a run fits the memory at hand before it takes any. It is an Error only if the run cannot
// fit, even with swap; if memory is tight, it is a warning with the figures.
#pragma once

#include <cstdint>
#include <string>

#include "attention/policy.h"
#include "base/memory_at_hand.h"
#include "engine/model.h"

namespace sepllm {

// The number of tokens of a stream, as far as it is known.
struct RunLength {
  int64_t certain = 0;   // tokens that will certainly be fed
  int64_t possible = 0;  // the most tokens, if there is a bound: an answer may end earlier
};

// Called before the weights are read. Error (kOutOfRange) if the weights in memory of their own (converted,
// or generated) and the cache of the certain tokens are more than memory and swap. Mapped weights never
// count: their pages can be dropped and read again. A warning if all weights are more than the memory: then
// they are read from the disk again and again, or swapped. `name`: of the model, for the message.
void check_weights_fit(const std::string& name, const ModelConfig& config, const WeightMemory& weights,
                       const PolicySettings& settings, const RunLength& length, const MemoryAtHand& at_hand);

// Called before the first token, when the weights are in place: the same for the cache. The warning is for a
// cache that, when it grows as long as possible, pushes mapped weights out or is swapped.
void check_cache_fits(const Model& model, const PolicySettings& settings, const RunLength& length,
                      const MemoryAtHand& at_hand);

// "3.4 GiB", "3.4 GiB, 5.4 GiB with swap and reserves", "unknown".
std::string memory_text(const MemoryAtHand& at_hand);

// The hint of an Error about memory: what to do if the system's figures are wrong.
std::string memory_hint();

}  // namespace sepllm
