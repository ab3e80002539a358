#include "ops/cached_nsa.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>

#include "attention/nsa_rule.h"
#include "base/check.h"
#include "kernels/attention/nsa_forward.h"
#include "kernels/rowwise/gated_sum.h"

namespace sepllm::ops {
namespace {

NsaQueries queries_of(const Context& ctx, const CachedAttentionOperands& o, const CachedNsa& s,
                      const NsaRule& rule) {
  const KvLayout& layout = s.cache->layout();
  const int64_t mean = layout.n_kv_heads * layout.head_dim;
  const HeadLayout heads = HeadLayout::dense(layout.n_kv_heads, layout.head_dim);
  float* means = s.cache->block_means(o.layer);
  SEPLLM_CHECK(s.queries.batch == 0 && s.queries.spans.size() == 1);
  return {.first_row = s.queries.first_row,
          .n_rows = s.queries.n_rows,
          .first_position = s.queries.first_position,
          .keys = s.queries.spans[0],
          .kv_type = s.queries.kv_type,
          .mean_k = {means, 2 * mean, heads},
          .mean_v = {means + mean, 2 * mean, heads},
          .selection = ctx.arena.allocate<int32_t>(s.queries.n_rows * layout.n_kv_heads * rule.chosen())};
}

void count_keys(const NsaPlan& plan, const NsaQueries& s, int64_t layer, KvCache* cache) {
  const int64_t n_kv = plan.n_kv_heads;
  for (int64_t r = 0; r < s.n_rows; ++r) {
    int64_t keys = 0, most = 0;
    for (int64_t g = 0; g < n_kv; ++g) {
      const int64_t seen =
          nsa_keys(plan.rule, s.position(r), s.selection + (r * n_kv + g) * plan.rule.chosen());
      keys += seen;
      most = std::max(most, seen);
    }
    cache->count_chosen(layer, r, (keys + n_kv / 2) / n_kv, most);
  }
}

// Sequences of one rule.
void run(const Context& ctx, const CachedAttentionOperands& o, std::span<const CachedNsa> sequences) {
  const Arena::Scope scope(ctx.arena);
  NsaRule rule = nsa_rule(sequences[0].cache->blocks(o.layer));
  int64_t last = 0;  // no query chooses more blocks than there are
  for (const CachedNsa& s : sequences) last = std::max(last, s.queries.first_position + s.queries.n_rows - 1);
  rule.blocks = std::clamp(rule.own(last) + 1, kNsaForcedBlocks, rule.blocks);
  auto* queries = ctx.arena.allocate<NsaQueries>(std::ssize(sequences));
  int64_t n_rows = 0;
  for (size_t i = 0; i < sequences.size(); ++i) {
    queries[i] = queries_of(ctx, o, sequences[i], rule);
    n_rows = std::max(n_rows, queries[i].first_row + queries[i].n_rows);
  }
  NsaPlan plan{.rule = rule,
               .scale = o.scale,
               .n_kv_heads = o.k.layout.n,
               .q = o.q,
               .queries = {queries, sequences.size()}};
  const int64_t width = o.q.layout.n * o.q.layout.dim;
  for (Heads& x : plan.out)
    x = {ctx.arena.allocate<float>(n_rows * width), width, HeadLayout::dense(o.q.layout.n, o.q.layout.dim)};
  nsa_forward(ctx, plan, /*decoding=*/true);
  for (size_t i = 0; i < sequences.size(); ++i) {
    const NsaQueries& s = queries[i];
    const NsaHeads branches{plan.out[0].rows(s.first_row), plan.out[1].rows(s.first_row),
                            plan.out[2].rows(s.first_row)};
    gated_sum(ctx, o.gates.rows(s.first_row, s.n_rows), branches, o.out.rows(s.first_row));
    count_keys(plan, s, o.layer, sequences[i].cache);
  }
}

}  // namespace

void cached_nsa(const Context& ctx, const CachedAttentionOperands& o, std::span<const CachedNsa> sequences) {
  while (!sequences.empty()) {
    SEPLLM_CHECK(o.gates.data != nullptr && o.alibi_slopes == nullptr);
    const BlockRule& rule = sequences[0].cache->blocks(o.layer);
    size_t n = 1;
    while (n < sequences.size() && sequences[n].cache->blocks(o.layer) == rule) ++n;
    run(ctx, o, sequences.first(n));
    sequences = sequences.subspan(n);
  }
}

}  // namespace sepllm::ops
