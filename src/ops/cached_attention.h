// Attention of new tokens to the keys that the KV caches of their sequences keep, for a batch of sequences.
// It needs a KvCache and queries, keys and values, but no model. The steps for one chunk of every sequence:
//   begin_chunks(rows);                          the tokens enter their caches' plans
//   for each layer:
//     rope(...)                                  by KvCache::encoded(), where positions are rotary
//     cached_attend(ctx, operands, rows);        keys and values enter the caches; queries attend
//   end_chunks(ctx, ropes, rows);                compressions: rows move, and keys rotate with them
#pragma once

#include <cstdint>
#include <iterator>
#include <span>

#include "cache/kv_cache.h"
#include "ops/ops.h"
#include "tensor/context.h"
#include "tensor/heads.h"

namespace sepllm::ops {

// The new tokens of one sequence and the cache that they enter (at most its max_chunk() tokens). Their
// queries, keys, values and outputs are rows [first_row, first_row + n_rows()) of a batch of the heads.
struct CachedRows {
  KvCache* cache = nullptr;
  std::span<const int32_t> tokens{};
  int64_t first_row = 0;
  int64_t batch = 0;
  int64_t n_rows() const { return std::ssize(tokens); }
};

// Calls KvCache::begin_chunk for every sequence. After it the caches know the places of the tokens
// (encoded(), second_encoded(), learned()). Error as for begin_chunk.
void begin_chunks(std::span<const CachedRows> rows);

struct CachedAttentionOperands {
  int64_t layer = 0;
  float scale = 0.0F;  // usually 1 / sqrt(head_dim)
  Heads q{}, k{},
      v{};  // of the new tokens, rotated where positions are rotary; as many kv heads as the caches have
  Heads second_q{};  // queries rotated by second_encoded(), for caches that have it; without data: q
  Heads out{};       // as many heads as q
  // Null, or [heads of q]: slope * (place of key - place of query) is added to the scaled score (ALiBi).
  const float* alibi_slopes = nullptr;
  // Only for caches whose layer attends by NSA: [rows, 3 * heads of q], row r for row r of batch 0
  // (ops/nsa.h).
  Matrix gates{};
};
// Stores keys and values of one layer in the caches, then sets out = softmax(scale q k^T + bias) v over the
// keys that each query sees there. Not with a tape: gradients do not flow into caches.
void cached_attend(const Context& ctx, const CachedAttentionOperands& operands,
                   std::span<const CachedRows> rows);

// KvCache::end_chunk for every sequence, and its moves. `ropes`: how keys were rotated, or without
// frequencies; one for all layers, or one for each.
void end_chunks(const Context& ctx, std::span<const RopeSpec> ropes, std::span<const CachedRows> rows);
inline void end_chunks(const Context& ctx, const RopeSpec& rope, std::span<const CachedRows> rows) {
  end_chunks(ctx, {&rope, 1}, rows);
}

// The part of end_chunks that changes keys and values: in every layer that moves rows and in every kv head,
// in order, rows are copied from slot to slot, and keys rotated by the distance that they moved.
void carry_out_moves(const Context& ctx, std::span<const RopeSpec> ropes, std::span<const Move> moves,
                     KvCache* cache);
inline void carry_out_moves(const Context& ctx, const RopeSpec& rope, std::span<const Move> moves,
                            KvCache* cache) {
  carry_out_moves(ctx, {&rope, 1}, moves, cache);
}

}  // namespace sepllm::ops
