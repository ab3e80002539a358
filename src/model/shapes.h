// Models of published shapes with random weights, in memory: for measuring speed without a download.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/thread_pool.h"
#include "model/config.h"
#include "model/weights.h"

namespace sepllm {

// "gpt2-124m", "pythia-14m", "pythia-160m", "sepllm-5m", "llama-160m", "tinyllama-1.1b", "llama-3-8b".
std::vector<std::string> shape_names();

// The published config.json of a shape, parsed. Error (kInvalidArgument) listing the names for any other
// name.
ModelSpec shape_spec(const std::string& name);

// Random weights for `spec` whose matrices have `type` (tables: table_type(type)), and whose scale keeps
// activations near 1. The same seed gives the same weights, whatever the number of threads. `type` may be a
// kept type (base/dtype.h). Error (kInvalidArgument) where rows are not whole units of its panels.
ModelWeights make_random_weights(const ModelSpec& spec, DType type, uint64_t seed, ThreadPool& pool);
// The memory that they will take; they own all of it.
WeightMemory random_weight_memory(const ModelSpec& spec, DType type);

}  // namespace sepllm
