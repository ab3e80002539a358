// Attention by a pattern, forward: cut into tiles of queries, head by head, so that the keys of a head stay
// in cache.
#include "kernels/attention/pattern_attention.h"

#include <algorithm>

#include "kernels/attention/attention_task.h"
#include "kernels/attention/pattern_plan.h"
#include "kernels/parallel.h"

namespace sepllm {
namespace {

// The tiles of one document: tile t has rows [t * rows, ...).
struct Tiling {
  int64_t first_task;
  int64_t rows;     // of a tile
  int64_t n_tiles;  // for each chunk of heads
};

}  // namespace

void pattern_attention(const Context& ctx, const PatternAttentionArgs& args) {
  if (ctx.attention == AttentionImpl::kReference) return pattern_attention_reference(ctx, args);
  const Arena::Scope scope(ctx.arena);
  const PatternPlan plan = make_pattern_plan(ctx, args);
  const HeadChunks chunks(plan.args);
  const auto n_documents = static_cast<int64_t>(plan.documents.size());
  auto* tilings = ctx.arena.allocate<Tiling>(n_documents);
  int64_t n_tasks = 0;
  for (int64_t i = 0; i < n_documents; ++i) {
    const int64_t rows = attention_tile_rows(plan.documents[i].attention.spans.back().window, chunks.heads);
    const int64_t n_tiles = (plan.documents[i].attention.n_rows + rows - 1) / rows;
    tilings[i] = {n_tasks, rows, n_tiles};
    n_tasks += n_tiles * chunks.count();
  }
  const int64_t per_worker = attention_many_scratch(plan.args.head_dim(), kAttentionTileLanes);
  float* scratch = ctx.arena.allocate<float>(per_worker * ctx.pool.size());

  const bool stream = pattern_output_bytes(plan) >= kAttentionStreamBytes;
  const auto task_at = [&](int64_t index) {
    const Tiling* tiling = std::upper_bound(tilings, tilings + n_documents, index,
                                            [](int64_t i, const Tiling& t) { return i < t.first_task; }) -
                           1;
    const int64_t in_document = index - tiling->first_task;
    AttentionTask t{};
    t.args = &plan.args;
    t.sequence = &plan.documents[tiling - tilings].attention;
    // The last tiles first: they are the largest.
    t.row = (tiling->n_tiles - 1 - in_document % tiling->n_tiles) * tiling->rows;
    t.n_rows = std::min(tiling->rows, t.sequence->n_rows - t.row);
    chunks.set(in_document / tiling->n_tiles, &t);
    t.key_end = kUnlimited;
    t.log_sum_exp = args.log_sum_exp.data != nullptr ? &args.log_sum_exp : nullptr;
    t.stream_output = stream;
    return t;
  };
  parallel_for(ctx, n_tasks, pattern_work(plan), [&](int64_t index, int worker) {
    AttentionTask t = task_at(index);
    AttentionTask next{};
    if (index + ctx.pool.size() < n_tasks) {
      next = task_at(index + ctx.pool.size());
      t.next = &next;
    }
    t.scratch = scratch + worker * per_worker;
    attention_many(t);
  });
}

}  // namespace sepllm
