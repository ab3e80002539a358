// The backward driver of attention by blocks. A task is a kv head of a sequence, or a part of its rows, and
// goes through the blocks as the forward pass does: first each row's own block, which sets d_q, and then the
// blocks that were chosen, each with the queries that chose it, which add to d_q. The gradients of a block's
// keys stay in cache meanwhile.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>

#include "base/check.h"
#include "base/sign_of_life.h"
#include "kernels/attention/attention_backward_task.h"
#include "kernels/attention/attention_key_sums.h"
#include "kernels/attention/attention_tiles.h"
#include "kernels/attention/block_attention.h"
#include "kernels/attention/block_lanes.h"
#include "kernels/parallel.h"

namespace sepllm {
namespace {

// Fewer rows than this are not worth a part of their own: too few queries would share a tile.
constexpr int64_t kLeastPartRows = 256;

class BlockBackward {
 public:
  BlockBackward(const Context& ctx, const AttentionArgs& args, std::span<const BlockSelection> selections,
                const AttentionGradients& gradients)
      : ctx_(ctx), args_(args), selections_(selections), gradients_(gradients), chunks_(args) {
    for (size_t i = 0; i < selections.size(); ++i) {
      const AttentionSequence& s = args.sequences[i];
      most_rows_ = std::max(most_rows_, s.n_rows);
      most_blocks_ = std::max(most_blocks_, std::ssize(selections[i].starts));
      most_chosen_ = std::max(most_chosen_, selections[i].n_chosen);
      work_ += 5 * s.n_rows * args.n_heads() * args.head_dim() * s.spans[0].n_keys /
               std::ssize(selections[i].starts) * (selections[i].n_chosen + 1);
    }
  }

  void run() {
    const int64_t n_items = std::ssize(args_.sequences) * args_.n_kv_heads;
    if (n_items == 0 || most_rows_ == 0) return;
    n_splits_ = KeySums::choose_splits(ctx_, args_, gradients_, most_rows_ / kLeastPartRows);
    const int64_t threads = ctx_.pool.size();
    scratch_size_ = attention_backward_scratch(args_.head_dim(), kAttentionTileLanes);
    scratch_ = ctx_.arena.allocate<float>(threads * scratch_size_);
    spans_ = ctx_.arena.allocate<KeySpan>(threads * most_blocks_);
    lanes_ = ctx_.arena.allocate<BlockLanes>(threads);
    const int64_t part_rows = (most_rows_ + n_splits_ - 1) / n_splits_;
    for (int64_t i = 0; i < threads; ++i)
      lanes_[i] = BlockLanes(ctx_, part_rows * chunks_.heads, most_chosen_, most_blocks_);
    const KeySums sums(ctx_, args_, gradients_, n_splits_, /*stream=*/false);
    parallel_for(ctx_, n_items * n_splits_, work_, [&](int64_t index, int worker) {
      add_part(index, worker, sums.of(index, worker));
      sums.added(index, worker);
    });
    sums.finish();
  }

 private:
  void add_part(int64_t index, int worker, float* sums) const {
    const int64_t item = index / n_splits_, split = index % n_splits_;
    const auto i = static_cast<size_t>(item / args_.n_kv_heads);
    const AttentionSequence& s = args_.sequences[i];
    const int64_t row = s.n_rows * split / n_splits_, end = s.n_rows * (split + 1) / n_splits_;
    if (row == end) return;
    for (int64_t c = 0; c < chunks_.per_group; ++c) {
      AttentionTask heads{};
      chunks_.set(item % args_.n_kv_heads * chunks_.per_group + c, &heads);
      heads.row = row;
      heads.n_rows = end - row;
      add_heads(s, selections_[i], heads, worker, sums);
    }
  }

  // `heads` says which rows and heads.
  void add_heads(const AttentionSequence& s, const BlockSelection& selection, const AttentionTask& heads,
                 int worker, float* sums) const {
    const auto task = [&](const KeySpan* span) {
      AttentionBackwardTask b{};
      b.tile = block_task(args_, s, span);
      b.tile.head = heads.head;
      b.tile.row = heads.row;
      b.tile.scratch = {scratch_ + worker * scratch_size_, static_cast<size_t>(scratch_size_)};
      b.gradients = &gradients_;
      b.key_sums = sums;
      b.value_sums = sums + KeySums::n_sums(s.keys) * attention_tile_stride(args_.head_dim());
      return b;
    };
    const int64_t tile_rows = std::max<int64_t>(1, kAttentionTileLanes / heads.n_heads);
    KeySpan* spans = spans_ + worker * most_blocks_;
    TasksInTurn<AttentionBackwardTask> tasks(attention_backward);
    for_each_own_block(s, selection, heads.row, heads.n_rows, [&](int64_t b, int64_t row, int64_t n) {
      sign_of_life();  // on a slow core, a whole head of a long document may take minutes
      spans[b] = block_span(s, selection, b);
      for (int64_t begin = row; begin < row + n; begin += tile_rows) {
        AttentionBackwardTask t = task(&spans[b]);
        t.tile.row = begin;
        t.tile.n_rows = std::min(tile_rows, row + n - begin);
        t.tile.n_heads = heads.n_heads;
        tasks.push(t);
      }
    });
    BlockLanes& lanes = lanes_[worker];
    lanes.sort(args_, s, selection, heads.row, heads.n_rows, heads.head, heads.n_heads);
    for (int64_t b = 0; b < lanes.n_blocks(); ++b) {
      sign_of_life();
      const std::span<const QueryLane> queries = lanes.of(b);
      spans[b] = block_span(s, selection, b);
      for (size_t begin = 0; begin < queries.size(); begin += kAttentionTileLanes) {
        AttentionBackwardTask t = task(&spans[b]);
        t.tile.gathered = queries.data() + begin;
        t.tile.n_rows =
            std::min<int64_t>(kAttentionTileLanes, std::ssize(queries) - static_cast<int64_t>(begin));
        t.tile.n_heads = 1;
        t.adds_to_d_q = true;
        tasks.push(t);
      }
    }
    tasks.finish();
  }

  const Context& ctx_;
  const AttentionArgs& args_;
  std::span<const BlockSelection> selections_;
  const AttentionGradients& gradients_;
  const HeadChunks chunks_;
  int64_t most_rows_ = 0, most_blocks_ = 0, most_chosen_ = 0;  // over all sequences
  int64_t work_ = 0;                                           // multiply-adds, about
  int64_t n_splits_ = 1, scratch_size_ = 0;
  float* scratch_ = nullptr;
  KeySpan* spans_ = nullptr;     // by thread: [blocks]
  BlockLanes* lanes_ = nullptr;  // by thread
};

}  // namespace

void block_attention_backward(const Context& ctx, const AttentionArgs& args,
                              std::span<const BlockSelection> selections,
                              const AttentionGradients& gradients) {
  check_blocks(args, selections);
  check_backward(args, gradients);
  for (const AttentionSequence& s : args.sequences) SEPLLM_CHECK(s.keys.copies.empty());
  if (ctx.attention == AttentionImpl::kReference)
    return block_attention_backward_reference(ctx, args, selections, gradients);
  const Arena::Scope scope(ctx.arena);
  BlockBackward(ctx, args, selections, gradients).run();
}

}  // namespace sepllm
