// Which walk over weights is fast on this machine, measured with the weights themselves.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/walk_rates.h"
#include "tensor/context.h"
#include "tensor/view.h"

namespace sepllm {

// The rate at which one row's product reads `weights` by each of candidate_walks(), in their order: the best
// of several rounds, in which the walks take turns. All weights have one type and are not transposed;
// together they are larger than the caches, or the rates are those of caches. Takes up to `seconds` after one
// pass that is not measured (it brings mapped pages in), at least one round. Empty where there are no
// weights.
std::vector<WalkRate> measure_walks(const Context& ctx, std::span<const Weight> weights, double seconds);

}  // namespace sepllm
