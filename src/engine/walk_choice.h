// Chooses how a model's weights are read where few rows are multiplied (decoding), by measuring.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/linear/walk_probe.h"
#include "model/decoder.h"
#include "tensor/context.h"

namespace sepllm {

// SEPLLM_WALKS: measure what is not remembered (the default), the default walks everywhere, or measure anew.
enum class WalkMode { kOn, kOff, kAgain };
// Error (kInvalidArgument) where the variable has another value than on, off or again.
WalkMode walk_mode();

struct ChosenWalk {
  DType type;  // of the matrices that it is for
  Walk walk;
  double bytes_per_second = 0;     // at which it reads
  std::vector<WalkRate> measured;  // all that were tried; empty: remembered from before
};

// What walks are remembered for: the processor, its instruction sets in use, the version of the program.
std::string walk_machine();

struct WalkRules {
  WalkMode mode = WalkMode::kOn;
  std::string file{};  // of WalkFile; empty: nothing is remembered
  // Of a type of which a model has fewer bytes, the default walk is taken: they come from caches in the end.
  int64_t least_bytes = int64_t{128} << 20;
};
// Those of the environment. Error as walk_mode().
WalkRules walk_rules();

// Sets the walks of the decoder's matrices, for the threads and the kind of products of `ctx`; matrices that
// are stored transposed keep the default walk. What is measured (at most 50 ms for all types together, after
// the weights have been read once) is remembered in the file. Bits of results do not depend on it.
std::vector<ChosenWalk> choose_walks(const Context& ctx, Decoder* decoder, const WalkRules& rules);

}  // namespace sepllm
