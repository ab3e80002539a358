// Carries out what a cache's compression asks for: rows are copied, and keys rotated by the distance that
// they moved.
#pragma once

#include <span>

#include "cache/kv_cache.h"
#include "model/config.h"
#include "tensor/context.h"

namespace sepllm {

void carry_out_moves(const Context& ctx, const ModelConfig& config, KvCache& cache,
                     std::span<const Move> moves);

}  // namespace sepllm
