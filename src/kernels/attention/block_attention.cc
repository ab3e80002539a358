// The forward driver of attention by blocks. A task is a range of rows of one sequence, times heads that
// share a kv head. It keeps the results of its queries so far (sums, largest score, total weight), and goes
// through the blocks: first each row's own block, in tiles of neighbouring rows with the causal mask, then
// the blocks that were chosen, each with the queries that chose it, in tiles without masks.
#include "kernels/attention/block_attention.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <numbers>
#include <span>

#include "kernels/attention/attention_tiles.h"
#include "kernels/attention/block_lanes.h"
#include "kernels/attention/block_lists.h"
#include "kernels/parallel.h"

namespace sepllm {
namespace {

// About so many rows times heads make a task: enough that most blocks fill their tiles, and few enough that
// the results so far stay near.
constexpr int64_t kTaskQueries = 8192;

// As in decoding: so few rows read the keys one query at a time (block_lists.h).
constexpr int64_t kFewRows = 16;

class BlockForward {
 public:
  BlockForward(const Context& ctx, const AttentionArgs& args, std::span<const BlockSelection> selections)
      : ctx_(ctx), args_(args), selections_(selections), chunks_(args) {
    task_rows_ = std::max<int64_t>(1, kTaskQueries / chunks_.heads);
    int64_t n_ranges = 0;
    for (const AttentionSequence& s : args.sequences) n_ranges += (s.n_rows + task_rows_ - 1) / task_rows_;
    ranges_ = ctx.arena.allocate<Range>(n_ranges);
    for (size_t i = 0; i < args.sequences.size(); ++i) {
      const AttentionSequence& s = args.sequences[i];
      most_blocks_ = std::max(most_blocks_, std::ssize(selections[i].starts));
      most_chosen_ = std::max(most_chosen_, selections[i].n_chosen);
      work_ += 2 * s.n_rows * args.n_heads() * args.head_dim() * s.spans[0].n_keys /
               std::ssize(selections[i].starts) * (selections[i].n_chosen + 1);
      for (int64_t row = 0; row < s.n_rows; row += task_rows_)
        ranges_[n_ranges_++] = {i, row, std::min(task_rows_, s.n_rows - row)};
    }
  }

  void run() {
    const int64_t threads = ctx_.pool.size();
    const int64_t most_rows = std::min(task_rows_, most_rows_of_ranges());
    kernel_scratch_ = attention_many_scratch(args_.head_dim(), kAttentionTileLanes);
    results_size_ = most_rows * chunks_.heads * (args_.head_dim() + 2);
    scratch_ = ctx_.arena.allocate<float>(threads * kernel_scratch_);
    results_ = ctx_.arena.allocate<float>(threads * results_size_);
    spans_ = ctx_.arena.allocate<KeySpan>(threads * most_blocks_);
    lanes_ = ctx_.arena.allocate<BlockLanes>(threads);
    for (int64_t i = 0; i < threads; ++i)
      lanes_[i] = BlockLanes(ctx_, most_rows * chunks_.heads, most_chosen_, most_blocks_);
    // (The last ranges of a sequence see the most keys, and come first.)
    parallel_for(ctx_, n_ranges_ * chunks_.count(), work_, [&](int64_t task, int worker) {
      run_task(ranges_[n_ranges_ - 1 - task / chunks_.count()], task % chunks_.count(), worker);
    });
  }

 private:
  struct Range {
    size_t sequence;
    int64_t row, n_rows;
  };

  int64_t most_rows_of_ranges() const {
    int64_t most = 0;
    for (int64_t i = 0; i < n_ranges_; ++i) most = std::max(most, ranges_[i].n_rows);
    return most;
  }

  void run_task(const Range& range, int64_t chunk, int worker) const {
    const AttentionSequence& s = args_.sequences[range.sequence];
    const BlockSelection& selection = selections_[range.sequence];
    AttentionTask heads{};
    chunks_.set(chunk, &heads);
    float* results = results_ + worker * results_size_;
    const auto task = [&](const KeySpan* span, int64_t row) {
      AttentionTask t = block_task(args_, s, span);
      t.head = heads.head;
      t.row = row;
      t.partial = results + (row - range.row) * heads.n_heads * (args_.head_dim() + 2);
      t.partial_heads = heads.n_heads;
      t.scratch = {scratch_ + worker * kernel_scratch_, static_cast<size_t>(kernel_scratch_)};
      return t;
    };
    const int64_t tile_rows = std::max<int64_t>(1, kAttentionTileLanes / heads.n_heads);
    KeySpan* spans = spans_ + worker * most_blocks_;
    TasksInTurn<AttentionTask> tasks(attention_many);
    for_each_own_block(s, selection, range.row, range.n_rows, [&](int64_t b, int64_t row, int64_t n) {
      spans[b] = block_span(s, selection, b);
      for (int64_t begin = row; begin < row + n; begin += tile_rows) {
        AttentionTask t = task(&spans[b], begin);
        t.n_rows = std::min(tile_rows, row + n - begin);
        t.n_heads = heads.n_heads;
        tasks.push(t);
      }
    });
    BlockLanes& lanes = lanes_[worker];
    lanes.sort(args_, s, selection, range.row, range.n_rows, heads.head, heads.n_heads);
    for (int64_t b = 0; b < lanes.n_blocks(); ++b) {
      const std::span<const QueryLane> queries = lanes.of(b);
      spans[b] = block_span(s, selection, b);
      for (size_t begin = 0; begin < queries.size(); begin += kAttentionTileLanes) {
        AttentionTask t = task(&spans[b], range.row);
        t.gathered = queries.data() + begin;
        t.n_rows = std::min<int64_t>(kAttentionTileLanes, std::ssize(queries) - static_cast<int64_t>(begin));
        t.n_heads = 1;
        t.continues = true;
        tasks.push(t);
      }
    }
    tasks.finish();
    finish(s, range, heads, results);
  }

  void finish(const AttentionSequence& s, const Range& range, const AttentionTask& heads,
              const float* results) const {
    const int64_t dim = args_.head_dim();
    for (int64_t r = range.row; r < range.row + range.n_rows; ++r) {
      for (int64_t h = heads.head; h < heads.head + heads.n_heads; ++h, results += dim + 2) {
        combine_splits(results, 0, 1, dim, args_.out.at(s.batch, s.first_row + r, h));
        if (args_.log_sum_exp.data == nullptr) continue;
        *args_.log_sum_exp.at(s.batch, s.first_row + r, h) =
            results[dim] * std::numbers::ln2_v<float> + std::log(results[dim + 1]);
      }
    }
  }

  const Context& ctx_;
  const AttentionArgs& args_;
  std::span<const BlockSelection> selections_;
  const HeadChunks chunks_;
  int64_t task_rows_ = 0, most_blocks_ = 0, most_chosen_ = 0;
  Range* ranges_ = nullptr;
  int64_t n_ranges_ = 0;
  int64_t work_ = 0;                               // multiply-adds, about
  int64_t kernel_scratch_ = 0, results_size_ = 0;  // of a thread
  float* scratch_ = nullptr;
  float* results_ = nullptr;     // by thread: [rows][heads][head_dim + 2], as AttentionTask::partial
  KeySpan* spans_ = nullptr;     // by thread: [blocks]
  BlockLanes* lanes_ = nullptr;  // by thread
};

}  // namespace

void block_attention(const Context& ctx, const AttentionArgs& args,
                     std::span<const BlockSelection> selections) {
  check_blocks(args, selections);
  if (ctx.attention == AttentionImpl::kReference) return block_attention_reference(ctx, args, selections);
  const Arena::Scope scope(ctx.arena);
  // Each sequence is computed by one way or the other, whatever the others are.
  const int64_t n = std::ssize(args.sequences);
  auto* sequences = ctx.arena.allocate<AttentionSequence>(n);
  auto* chosen = ctx.arena.allocate<BlockSelection>(n);
  const auto run = [&](bool few, const auto& fn) {
    size_t count = 0;
    for (size_t i = 0; i < args.sequences.size(); ++i) {
      const bool is_few = args.log_sum_exp.data == nullptr && args.sequences[i].n_rows <= kFewRows;
      if (is_few != few) continue;
      sequences[count] = args.sequences[i];
      chosen[count++] = selections[i];
    }
    if (count == 0) return;
    AttentionArgs own = args;
    own.sequences = {sequences, count};
    fn(own, std::span<const BlockSelection>(chosen, count));
  };
  run(true, [&](const AttentionArgs& own, std::span<const BlockSelection> of) {
    attention(ctx, as_lists(ctx, own, of));
  });
  run(false, [&](const AttentionArgs& own, std::span<const BlockSelection> of) {
    BlockForward(ctx, own, of).run();
  });
}

}  // namespace sepllm
