// The backward driver of attention. A task is one kv head of one sequence, or a part of its queries, and sums
// its key gradients in its own memory, so sums are added in a fixed order.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>

#include "base/check.h"
#include "base/sign_of_life.h"
#include "kernels/attention/attention.h"
#include "kernels/attention/attention_backward_task.h"
#include "kernels/attention/attention_key_sums.h"
#include "kernels/attention/attention_tiles.h"
#include "kernels/parallel.h"

namespace sepllm {
namespace {

class Backward {
 public:
  Backward(const Context& ctx, const AttentionArgs& args, const AttentionGradients& gradients)
      : ctx_(ctx),
        args_(args),
        gradients_(gradients),
        chunks_(args),
        stride_(attention_tile_stride(args.head_dim())),
        n_items_(std::ssize(args.sequences) * args.n_kv_heads) {
    tiles_ = ctx.arena.allocate<RowTiles>(std::ssize(args.sequences));
    for (size_t i = 0; i < args.sequences.size(); ++i) {
      tiles_[i] = wide_tiles(args.sequences[i], chunks_);
      most_tiles_ = std::max(most_tiles_, tiles_[i].count());
    }
  }

  void run() {
    if (n_items_ == 0) return;
    n_splits_ = KeySums::choose_splits(ctx_, args_, gradients_, most_tiles_);
    stream_ = is_large_output(args_);
    const int64_t per_worker = attention_backward_scratch(args_.head_dim(), kAttentionTileLanes);
    float* scratch = ctx_.arena.allocate<float>(per_worker * ctx_.pool.size());
    KeySums sums(ctx_, args_, gradients_, n_splits_, stream_);
    parallel_for(ctx_, n_items_ * n_splits_, 5 * attention_work(args_), [&](int64_t index, int worker) {
      const Part part = part_at(index);
      add_tiles(index, part, sums.of(index, worker),
                {scratch + worker * per_worker, static_cast<size_t>(per_worker)});
      sums.added(index, worker);
    });
    sums.finish();
  }

 private:
  const AttentionSequence& sequence(int64_t item) const { return args_.sequences[item / args_.n_kv_heads]; }
  const RowTiles& tiles(int64_t item) const { return tiles_[item / args_.n_kv_heads]; }
  int64_t kv_head(int64_t item) const { return item % args_.n_kv_heads; }

  // The number of keys that any query of a tile sees, to which its work is proportional.
  int64_t tile_keys(int64_t item, int64_t tile) const {
    return keys_of_rows(sequence(item), kv_head(item), tiles(item).first(tile), tiles(item).size(tile));
  }

  // A part of an item: tiles [begin, end) of its rows, ordered by chunk of heads.
  struct Part {
    int64_t item;
    int64_t begin, end;
    int64_t n_tasks;
  };
  // The tiles in order, in parts of about the same work.
  Part part_at(int64_t index) const {
    const int64_t item = index / n_splits_, part = index % n_splits_, n = tiles(item).count();
    if (n_splits_ == 1) return {item, 0, n, n * chunks_.per_group};
    int64_t total = 0;
    for (int64_t t = 0; t < n; ++t) total += tile_keys(item, t);
    int64_t begin = n, end = n, before = 0;
    for (int64_t t = 0; t < n; ++t) {
      // A tile belongs to the part in which its first key falls.
      const int64_t its_part = before * n_splits_ / std::max<int64_t>(total, 1);
      if (its_part == part) begin = std::min(begin, t);
      if (its_part > part) {
        end = t;
        break;
      }
      before += tile_keys(item, t);
    }
    begin = std::min(begin, end);
    return {item, begin, end, (end - begin) * chunks_.per_group};
  }

  AttentionBackwardTask task_of(const Part& part, int64_t index) const {
    const int64_t n = part.end - part.begin, tile = part.begin + index % n;
    AttentionBackwardTask b{};
    b.tile =
        make_task(args_, sequence(part.item), chunks_, kv_head(part.item) * chunks_.per_group + index / n,
                  tiles(part.item).first(tile), tiles(part.item).size(tile));
    b.tile.stream_output = stream_;
    b.gradients = &gradients_;
    return b;
  }

  void add_tiles(int64_t index, const Part& part, float* sums, std::span<float> scratch) const {
    const int64_t n = KeySums::n_sums(sequence(part.item).keys) * stride_;
    AttentionBackwardTask next{};
    for (int64_t i = 0; i < part.n_tasks; ++i) {
      sign_of_life();  // on a slow core, a whole head of a long document may take minutes
      AttentionBackwardTask b = task_of(part, i);
      b.tile.scratch = scratch;
      b.key_sums = sums;
      b.value_sums = sums + n;
      if (i + 1 < part.n_tasks) {
        next = task_of(part, i + 1);
        b.next = &next;
      } else if (index + ctx_.pool.size() < n_items_ * n_splits_) {
        // Probably the next part of this worker.
        const Part other = part_at(index + ctx_.pool.size());
        if (other.n_tasks > 0) next = task_of(other, 0), b.next = &next;
      }
      attention_backward(b);
    }
  }

  const Context& ctx_;
  const AttentionArgs& args_;
  const AttentionGradients& gradients_;
  const HeadChunks chunks_;
  const int64_t stride_;
  const int64_t n_items_;
  int64_t most_tiles_ = 0;  // over all sequences
  int64_t n_splits_ = 1;
  bool stream_ = false;
  RowTiles* tiles_ = nullptr;  // for each sequence
};

}  // namespace

void check_backward(const AttentionArgs& a, const AttentionGradients& g) {
  SEPLLM_CHECK(a.out.data != nullptr && a.log_sum_exp.data != nullptr && a.second_q.data == nullptr);
  SEPLLM_CHECK(g.d_out.layout.n == a.n_heads() && g.d_q.layout.n == a.n_heads());
  SEPLLM_CHECK(g.d_k.layout.n == a.n_kv_heads && g.d_v.layout.n == a.n_kv_heads);
  for (const AttentionSequence& s : a.sequences) {
    SEPLLM_CHECK(s.kv_type == DType::kF32);
    for (const KeySpan& span : s.spans)
      SEPLLM_CHECK(span.gradient_row >= 0 && span.gradient_row + span.n_keys <= KeySums::n_sums(s.keys));
  }
}

void attention_backward(const Context& ctx, const AttentionArgs& args, const AttentionGradients& gradients) {
  check_attention(args);
  check_backward(args, gradients);
  if (ctx.attention == AttentionImpl::kReference) return attention_backward_reference(ctx, args, gradients);
  const Arena::Scope scope(ctx.arena);
  Backward(ctx, args, gradients).run();
}

}  // namespace sepllm
