// Native sparse attention of new tokens to the keys in their caches: a part of cached_attend().
#pragma once

#include <span>

#include "kernels/attention/attention.h"
#include "ops/cached_attention.h"
#include "tensor/context.h"

namespace sepllm::ops {

// A cache whose layer attends by NSA, and its queries over the span of all its keys. The keys and the means
// of complete blocks have been written.
struct CachedNsa {
  KvCache* cache = nullptr;
  AttentionSequence queries{};
};

// Sets the rows of o.out that belong to these sequences, and tells the caches what was seen.
void cached_nsa(const Context& ctx, const CachedAttentionOperands& o, std::span<const CachedNsa> sequences);

}  // namespace sepllm::ops
