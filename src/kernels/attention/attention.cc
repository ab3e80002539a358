// Cuts attention into tasks whose shapes do not depend on the number of threads.
#include "kernels/attention/attention.h"

#include <algorithm>

#include "base/check.h"
#include "kernels/attention/attention_task.h"
#include "kernels/parallel.h"

namespace sepllm {
namespace {

// Sequences of at most kSplitRows rows (decode) are also cut along their keys, so that one sequence makes
// about kTasks tasks and keeps all threads busy; but splits have a cost of their own, about that of 50 keys.
constexpr int64_t kSplitRows = 16;
constexpr int64_t kTasks = 64;
constexpr int64_t kLeastSplit = 512;  // keys
constexpr int64_t kMostSplit = 4096;

// A tile of rows of one sequence; every head of it is a task or several.
struct Tile {
  const AttentionSequence* sequence;
  int64_t row, n_rows;
  int64_t n_keys;                // that any of the rows sees
  int64_t split, n_splits;       // keys of a split, and how many splits
  int64_t first_task, n_chunks;  // chunks of heads: n_kv_heads * chunks_per_group(...)
  int64_t partial;               // index of its first partial result, where n_splits > 1
};

struct Plan {
  Tile* tiles = nullptr;
  int64_t n_tiles = 0;
  int64_t n_tasks = 0;
  int64_t n_partials = 0;
  int64_t work = 0;  // multiply-adds
};

int64_t rows_per_tile(const AttentionSequence& s, int64_t heads) {
  if (s.n_rows * heads <= kAttentionFewLanes) return std::max<int64_t>(1, s.n_rows);
  int64_t window = 1;
  for (const KeySpan& span : s.spans) {
    if (span.positions == nullptr) window = std::max(window, span.window);
  }
  return attention_tile_rows(window, heads);
}

int64_t visible_keys(const AttentionSequence& s, int64_t row, int64_t n_rows) {
  int64_t n = 0;
  for (const KeySpan& span : s.spans) {
    const int64_t first = s.first_position + row;
    n += std::max<int64_t>(0, range_of_rows(span, first, first + n_rows - 1).size());
  }
  SEPLLM_CHECK(n > 0);
  return n;
}

// Depends on nothing but the keys, so that neither threads nor other sequences of the batch change a result.
int64_t keys_of_split(int64_t n_keys, int64_t n_chunks) {
  const int64_t n_splits = std::max<int64_t>(1, kTasks / n_chunks);
  const int64_t even = (n_keys + n_splits - 1) / n_splits;
  return std::clamp((even + kLeastSplit - 1) / kLeastSplit * kLeastSplit, kLeastSplit, kMostSplit);
}

Plan make_plan(const Context& ctx, const AttentionArgs& a) {
  const HeadChunks chunks(a);
  const int64_t n_chunks = chunks.count();
  int64_t n_tiles = 0;
  for (const AttentionSequence& s : a.sequences) {
    const int64_t rows = rows_per_tile(s, chunks.heads);
    n_tiles += (s.n_rows + rows - 1) / rows;
  }
  Plan plan;
  plan.tiles = ctx.arena.allocate<Tile>(n_tiles);
  for (const AttentionSequence& s : a.sequences) {
    const int64_t rows = rows_per_tile(s, chunks.heads);
    for (int64_t row = 0; row < s.n_rows; row += rows) {
      const int64_t n_rows = std::min(rows, s.n_rows - row);
      const int64_t n_keys = visible_keys(s, row, n_rows);
      const int64_t split = s.n_rows <= kSplitRows ? keys_of_split(n_keys, n_chunks) : n_keys;
      const int64_t n_splits = (n_keys + split - 1) / split;
      plan.tiles[plan.n_tiles++] = {&s,       row,          n_rows,   n_keys,         split,
                                    n_splits, plan.n_tasks, n_chunks, plan.n_partials};
      plan.n_tasks += n_splits * n_chunks;
      if (n_splits > 1) plan.n_partials += n_splits * n_rows * a.n_heads();
      plan.work += 2 * n_rows * n_keys * a.n_heads() * a.head_dim();
    }
  }
  return plan;
}

// The tile that task `index` belongs to.
const Tile& tile_of(const Plan& plan, int64_t index) {
  return *(std::upper_bound(plan.tiles, plan.tiles + plan.n_tiles, index,
                            [](int64_t i, const Tile& t) { return i < t.first_task; }) -
           1);
}

// `index`: among the tasks of the tile.
AttentionTask make_task(const AttentionArgs& a, const Tile& tile, int64_t index) {
  const int64_t split = index / tile.n_chunks;
  AttentionTask t{};
  t.args = &a;
  t.sequence = tile.sequence;
  t.row = tile.row;
  t.n_rows = tile.n_rows;
  HeadChunks(a).set(index % tile.n_chunks, &t);
  t.key_begin = split * tile.split;
  t.key_end = std::min(tile.n_keys, t.key_begin + tile.split);
  return t;
}

// Row `row` (of the tile) and head `head`, from its splits in their order.
void combine(const AttentionArgs& a, const Tile& tile, const float* partials, int64_t row, int64_t head) {
  const int64_t stride = a.head_dim() + 2;
  const float* first = partials + (tile.partial + row * a.n_heads() + head) * stride;
  const AttentionSequence& s = *tile.sequence;
  combine_splits(first, tile.n_rows * a.n_heads() * stride, tile.n_splits, a.head_dim(),
                 a.out.at(s.batch, s.first_row + tile.row + row, head));
}

void check(const AttentionArgs& a) {
  check_heads(a);
  for (const AttentionSequence& s : a.sequences) {
    SEPLLM_CHECK(a.alibi_slopes == nullptr || s.n_rows == 0 || s.encoded != nullptr);
  }
}

}  // namespace

void attention(const Context& ctx, const AttentionArgs& args) {
  check(args);
  if (ctx.attention == AttentionImpl::kReference) return attention_reference(ctx, args);
  const Arena::Scope scope(ctx.arena);
  const Plan plan = make_plan(ctx, args);
  const int64_t per_worker = std::max(attention_many_scratch(args.head_dim(), kAttentionTileLanes),
                                      attention_few_scratch(args.head_dim()));
  float* scratch = ctx.arena.allocate<float>(per_worker * ctx.pool.size());
  float* partials = ctx.arena.allocate<float>(plan.n_partials * (args.head_dim() + 2));

  parallel_for(ctx, plan.n_tasks, plan.work, [&](int64_t task, int worker) {
    // The last tiles first: in a causal prompt they are the largest.
    const int64_t index = plan.n_tasks - 1 - task;
    const Tile& tile = tile_of(plan, index);
    const int64_t in_tile = index - tile.first_task;
    AttentionTask t = make_task(args, tile, in_tile);
    AttentionTask next{};
    const bool few = t.lanes() <= kAttentionFewLanes;
    if (const int64_t later = index - ctx.pool.size(); later >= 0) {
      const Tile& next_tile = tile_of(plan, later);
      next = make_task(args, next_tile, later - next_tile.first_task);
      // Rows are fetched as what the task itself reads.
      if (next.sequence->kv_type == t.sequence->kv_type) t.next = &next;
    }
    t.scratch = scratch + worker * per_worker;
    if (tile.n_splits > 1) {
      const int64_t first = tile.partial + in_tile / tile.n_chunks * tile.n_rows * args.n_heads() + t.head;
      t.partial = partials + first * (args.head_dim() + 2);
    }
    if (few) {
      attention_few(t);
    } else {
      attention_many(t);
    }
  });
  if (plan.n_partials == 0) return;
  const int64_t n_heads = args.n_heads();
  parallel_for(ctx, plan.n_tiles * n_heads, plan.n_partials * args.head_dim(), [&](int64_t i, int) {
    const Tile& tile = plan.tiles[i / n_heads];
    if (tile.n_splits == 1) return;
    for (int64_t r = 0; r < tile.n_rows; ++r) combine(args, tile, partials, r, i % n_heads);
  });
}

}  // namespace sepllm
