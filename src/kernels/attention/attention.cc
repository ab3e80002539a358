// The forward driver: cuts attention into tasks whose shapes do not depend on the number of threads.
#include "kernels/attention/attention.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>

#include "base/check.h"
#include "kernels/attention/attention_bytes.h"
#include "kernels/attention/attention_task.h"
#include "kernels/attention/attention_tiles.h"
#include "kernels/parallel.h"

namespace sepllm {
namespace {

// Sequences of at most kSplitRows rows (decoding) are also split along their keys, so that one sequence makes
// about kTasks tasks and keeps all threads busy; but each split has a cost of its own, about that of 50 keys.
constexpr int64_t kSplitRows = 16;
constexpr int64_t kTasks = 64;
constexpr int64_t kLeastSplit = 512;  // keys
constexpr int64_t kMostSplit = 4096;

// The result depends only on the keys, so that neither threads nor other sequences of the batch change a
// result.
int64_t keys_of_split(int64_t n_keys, int64_t n_chunks) {
  const int64_t n_splits = std::max<int64_t>(1, kTasks / n_chunks);
  const int64_t even = (n_keys + n_splits - 1) / n_splits;
  return std::clamp((even + kLeastSplit - 1) / kLeastSplit * kLeastSplit, kLeastSplit, kMostSplit);
}

// A tile of rows of one sequence. For each chunk of heads it becomes one task, or one per split of its keys.
struct Tile {
  const AttentionSequence* sequence;
  int64_t row, n_rows;
  int64_t split, n_splits;  // keys of a split, and how many splits
  int64_t first_task;       // index among the sequence's tasks of one chunk
  int64_t partial;          // index of its first partial result, if n_splits > 1
};

// The tasks of a sequence, ordered by chunk of heads so that a head's keys stay in cache.
struct SequenceTasks {
  int64_t first_task;
  int64_t per_chunk;
  int64_t first_tile, n_tiles;  // the last rows come first: in a causal prompt they see the most keys
};

class Forward {
 public:
  Forward(const Context& ctx, const AttentionArgs& args, const ForwardOptions& options)
      : ctx_(ctx),
        args_(args),
        options_(options),
        chunks_(args),
        bytes_(options.decoding && ctx.block_products == BlockProducts::kInteger &&
               args.head_dim() <= kByteMostHeadDim && has_attention_bytes()) {
    int64_t n_tiles = 0;
    for (const AttentionSequence& s : args.sequences) n_tiles += tiles_of(s).count();
    tiles_ = ctx.arena.allocate<Tile>(n_tiles);
    sequences_ = ctx.arena.allocate<SequenceTasks>(std::ssize(args.sequences));
    for (const AttentionSequence& s : args.sequences) add(s);
  }

  void run() {
    const int64_t dim = args_.head_dim();
    int64_t per_worker =
        std::max(attention_many_scratch(dim, kAttentionTileLanes), attention_few_scratch(dim));
    if (bytes_) per_worker = std::max(per_worker, attention_bytes_scratch(dim, most_byte_lanes()));
    float* scratch = ctx_.arena.allocate<float>(per_worker * ctx_.pool.size());
    partials_ = ctx_.arena.allocate<float>(n_partials_ * (dim + 2));
    parallel_for(ctx_, n_tasks_, work_, [&](int64_t index, int worker) {
      AttentionTask t = task_at(index);
      t.scratch = {scratch + worker * per_worker, static_cast<size_t>(per_worker)};
      AttentionTask next{};
      if (index + ctx_.pool.size() < n_tasks_) {
        next = task_at(index + ctx_.pool.size());
        // Rows can be prefetched only in the type that the task itself reads.
        if (next.sequence->kv_type == t.sequence->kv_type) t.next = &next;
      }
      if (by_bytes(*t.sequence)) {
        attention_bytes(t);
      } else if (options_.decoding && t.lanes() <= kAttentionFewLanes) {
        attention_few(t);
      } else {
        attention_many(t);
      }
    });
    if (n_partials_ > 0) combine();
  }

 private:
  bool has_few_lanes(const AttentionSequence& s) const {
    return options_.decoding && s.n_rows * chunks_.heads <= kAttentionFewLanes;
  }
  // Whether a sequence's products are made of bytes. One lane is limited by reading; many heads of one kv
  // head are multiplied by bytes only where they are the heads of one row: a prompt takes the tiles of f32.
  bool by_bytes(const AttentionSequence& s) const {
    return bytes_ && s.kv_type == DType::kI8 && s.n_rows * chunks_.heads > 1 &&
           (has_few_lanes(s) || s.n_rows == 1);
  }
  int64_t most_byte_lanes() const { return std::max(chunks_.heads, kAttentionFewLanes); }

  RowTiles tiles_of(const AttentionSequence& s) const {
    if (has_few_lanes(s)) return {s, std::max<int64_t>(1, s.n_rows)};
    return wide_tiles(s, chunks_);
  }

  // The largest number of keys that any of the rows sees in one kv head.
  int64_t most_keys(const AttentionSequence& s, int64_t row, int64_t n_rows) const {
    int64_t most = 0;
    for (int64_t g = 0; g < (s.lists == nullptr ? 1 : args_.n_kv_heads); ++g) {
      const int64_t n = keys_of_rows(s, g, row, n_rows);
      SEPLLM_CHECK(n > 0);
      most = std::max(most, n);
    }
    return most;
  }

  void add(const AttentionSequence& s) {
    const RowTiles rows = tiles_of(s);
    SequenceTasks& tasks = sequences_[n_sequences_++];
    tasks = {n_tasks_, 0, n_tiles_, rows.count()};
    for (int64_t t = rows.count() - 1; t >= 0; --t) {
      const int64_t row = rows.first(t), n_rows = rows.size(t), n_keys = most_keys(s, row, n_rows);
      const bool splits = options_.decoding && s.n_rows <= kSplitRows;
      const int64_t split = splits ? keys_of_split(n_keys, chunks_.count()) : n_keys;
      const int64_t n_splits = (n_keys + split - 1) / split;
      tiles_[n_tiles_++] = {&s, row, n_rows, split, n_splits, tasks.per_chunk, n_partials_};
      tasks.per_chunk += n_splits;
      if (n_splits > 1) n_partials_ += n_splits * n_rows * args_.n_heads();
      work_ += 2 * n_rows * n_keys * args_.n_heads() * args_.head_dim();
    }
    n_tasks_ += tasks.per_chunk * chunks_.count();
  }

  AttentionTask task_at(int64_t index) const {
    const SequenceTasks& s =
        *(std::upper_bound(sequences_, sequences_ + n_sequences_, index,
                           [](int64_t i, const SequenceTasks& t) { return i < t.first_task; }) -
          1);
    const int64_t chunk = (index - s.first_task) / s.per_chunk,
                  in_chunk = (index - s.first_task) % s.per_chunk;
    const Tile* first = tiles_ + s.first_tile;
    const Tile& tile = *(std::upper_bound(first, first + s.n_tiles, in_chunk,
                                          [](int64_t i, const Tile& t) { return i < t.first_task; }) -
                         1);
    AttentionTask t = make_task(args_, *tile.sequence, chunks_, chunk, tile.row, tile.n_rows);
    t.stream_output = options_.stream_output;
    if (tile.n_splits == 1) return t;
    const int64_t split = in_chunk - tile.first_task;
    t.key_begin = split * tile.split;
    t.key_end = t.key_begin + tile.split;
    t.partial = partial(tile, split, 0, t.head);
    t.partial_heads = args_.n_heads();
    return t;
  }

  int64_t partial_size() const { return args_.head_dim() + 2; }
  float* partial(const Tile& tile, int64_t split, int64_t row, int64_t head) const {
    return partials_ + (tile.partial + (split * tile.n_rows + row) * args_.n_heads() + head) * partial_size();
  }

  // Combines every row and head whose keys were split, in the order of the splits.
  void combine() const {
    const int64_t n_heads = args_.n_heads();
    parallel_for(ctx_, n_tiles_ * n_heads, n_partials_ * args_.head_dim(), [&](int64_t i, int) {
      const Tile& tile = tiles_[i / n_heads];
      if (tile.n_splits == 1) return;
      const AttentionSequence& s = *tile.sequence;
      for (int64_t r = 0; r < tile.n_rows; ++r) {
        combine_splits(partial(tile, 0, r, i % n_heads), tile.n_rows * n_heads * partial_size(),
                       tile.n_splits, args_.head_dim(),
                       args_.out.at(s.batch, s.first_row + tile.row + r, i % n_heads));
      }
    });
  }

  const Context& ctx_;
  const AttentionArgs& args_;
  const ForwardOptions& options_;
  const HeadChunks chunks_;
  const bool bytes_;  // whether sequences with int8 keys may use attention_bytes
  Tile* tiles_ = nullptr;
  SequenceTasks* sequences_ = nullptr;
  float* partials_ = nullptr;
  int64_t n_tiles_ = 0, n_sequences_ = 0, n_tasks_ = 0, n_partials_ = 0;
  int64_t work_ = 0;  // multiply-adds
};

}  // namespace

void attention_forward(const Context& ctx, const AttentionArgs& args, const ForwardOptions& options) {
  const Arena::Scope scope(ctx.arena);
  Forward(ctx, args, options).run();
}

void attention(const Context& ctx, const AttentionArgs& args) {
  check_attention(args);
  if (ctx.attention == AttentionImpl::kReference) return attention_reference(ctx, args);
  const bool decoding = args.log_sum_exp.data == nullptr;
  attention_forward(ctx, args, {.decoding = decoding, .stream_output = !decoding && is_large_output(args)});
}

}  // namespace sepllm
