// Attention by a pattern, backward: a task is one kv head of one document, or a part of its queries, and sums
// its key gradients in memory of its own; so sums are in a fixed order.
#include <algorithm>
#include <vector>

#include "base/check.h"
#include "base/sign_of_life.h"
#include "kernels/attention/attention_backward_task.h"
#include "kernels/attention/pattern_attention.h"
#include "kernels/attention/pattern_plan.h"
#include "kernels/parallel.h"

namespace sepllm {
namespace {

// Threads that the split is made for where it must not depend on how many there are.
constexpr int64_t kNominalThreads = 8;
constexpr int64_t kMostSplits = 64;

struct Split {
  int64_t begin, end;  // tiles of the document
};

class Backward {
 public:
  Backward(const Context& ctx, const PatternAttentionArgs& args, const PatternAttentionGradients& gradients)
      : ctx_(ctx),
        args_(args),
        gradients_(gradients),
        plan_(make_pattern_plan(ctx, args)),
        chunks_(plan_.args),
        stride_(attention_tile_stride(plan_.args.head_dim())) {}

  void run() {
    n_items_ = static_cast<int64_t>(plan_.documents.size()) * plan_.args.n_kv_heads;
    if (n_items_ == 0) return;
    n_splits_ = choose_splits();
    stream_ = pattern_output_bytes(plan_) >= kAttentionStreamBytes;
    const int64_t per_worker = attention_backward_scratch(plan_.args.head_dim(), kAttentionTileLanes);
    scratch_ = ctx_.arena.allocate<float>(per_worker * ctx_.pool.size());
    const int64_t n_sums = n_splits_ == 1 ? ctx_.pool.size() : n_items_ * n_splits_;
    sums_size_ = 2 * most_keys() * stride_;
    sums_ = ctx_.arena.allocate<float>(n_sums * sums_size_);
    parallel_for(ctx_, n_items_ * n_splits_, 5 * pattern_work(plan_), [&](int64_t index, int worker) {
      const Part part = part_at(index);
      float* sums = sums_ + (n_splits_ == 1 ? worker : index) * sums_size_;
      add_tiles(index, part, sums, scratch_ + worker * per_worker);
      if (n_splits_ == 1) write(part.item, {sums, 1}, 0, document(part.item).attention.n_rows);
    });
    if (n_splits_ > 1) write_all();
  }

 private:
  // Sums of an item's splits, one after the other.
  struct Sums {
    float* first;
    int64_t n;
  };

  const PatternDocument& document(int64_t item) const {
    return plan_.documents[item / plan_.args.n_kv_heads];
  }
  static int64_t n_keys(const PatternDocument& d) { return d.n_kept + d.attention.n_rows; }
  int64_t most_keys() const {
    int64_t most = 0;
    for (const PatternDocument& d : plan_.documents) most = std::max(most, n_keys(d));
    return most;
  }
  int64_t tile_rows(const PatternDocument& d) const {
    return attention_tile_rows(d.attention.spans.back().window, chunks_.heads);
  }
  int64_t n_tiles(const PatternDocument& d) const {
    return (d.attention.n_rows + tile_rows(d) - 1) / tile_rows(d);
  }
  // Parts of an item: one, unless there are too few items to keep the threads busy.
  int64_t choose_splits() const {
    const int64_t threads = gradients_.same_for_any_threads ? kNominalThreads : ctx_.pool.size();
    if (threads == 1 || n_items_ % threads == 0 || n_items_ >= 4 * threads) return 1;
    int64_t most = 1;
    for (const PatternDocument& d : plan_.documents) most = std::max(most, n_tiles(d));
    return std::min({most, kMostSplits, (4 * threads + n_items_ - 1) / n_items_});
  }

  // Keys that any query of a tile sees: what its work is proportional to.
  int64_t tile_keys(const PatternDocument& d, int64_t tile) const {
    const int64_t row = tile * tile_rows(d);
    const int64_t first = d.attention.first_position + row;
    const int64_t last = first + std::min(tile_rows(d), d.attention.n_rows - row) - 1;
    int64_t n = 0;
    for (const KeySpan& span : d.attention.spans) {
      n += std::max<int64_t>(0, range_of_rows(span, first, last).size());
    }
    return n;
  }

  // Tiles in order, in parts of about the same work.
  Split split_of(const PatternDocument& d, int64_t part) const {
    const int64_t tiles = n_tiles(d);
    if (n_splits_ == 1) return {0, tiles};
    int64_t total = 0;
    for (int64_t t = 0; t < tiles; ++t) total += tile_keys(d, t);
    Split split{tiles, tiles};
    int64_t before = 0;
    for (int64_t t = 0; t < tiles; ++t) {
      // A tile belongs to the part in which its first key falls.
      const int64_t its_part = before * n_splits_ / std::max<int64_t>(total, 1);
      if (its_part == part) split.begin = std::min(split.begin, t);
      if (its_part > part) {
        split.end = t;
        break;
      }
      before += tile_keys(d, t);
    }
    split.begin = std::min(split.begin, split.end);
    return split;
  }

  // A part of an item: its tiles, chunk of heads by chunk of heads.
  struct Part {
    int64_t item;
    Split split;
    int64_t n_tasks;
  };
  Part part_at(int64_t index) const {
    const int64_t item = index / n_splits_;
    const Split split = split_of(document(item), index % n_splits_);
    return {item, split, (split.end - split.begin) * chunks_.per_group};
  }

  AttentionBackwardTask task_of(const Part& part, int64_t index) const {
    const PatternDocument& d = document(part.item);
    const int64_t tiles = part.split.end - part.split.begin;
    AttentionBackwardTask b{};
    b.tile.args = &plan_.args;
    b.tile.sequence = &d.attention;
    b.tile.row = (part.split.begin + index % tiles) * tile_rows(d);
    b.tile.n_rows = std::min(tile_rows(d), d.attention.n_rows - b.tile.row);
    chunks_.set(part.item % plan_.args.n_kv_heads * chunks_.per_group + index / tiles, &b.tile);
    b.tile.key_end = kUnlimited;
    b.tile.stream_output = stream_;
    b.tile.log_sum_exp = &args_.log_sum_exp;
    b.gradients = &gradients_;
    return b;
  }

  void add_tiles(int64_t index, const Part& part, float* sums, float* scratch) const {
    const PatternDocument& d = document(part.item);
    std::fill_n(sums, 2 * n_keys(d) * stride_, 0.0F);
    KeyGradients of_spans[2];
    float* at = sums;
    for (size_t i = 0; i < d.attention.spans.size(); ++i) {
      const int64_t n = d.attention.spans[i].n_keys * stride_;
      of_spans[i] = {at, at + n};
      at += 2 * n;
    }
    AttentionBackwardTask next{};
    for (int64_t i = 0; i < part.n_tasks; ++i) {
      sign_of_life();  // a whole head of a long document may take a slow core minutes
      AttentionBackwardTask b = task_of(part, i);
      b.tile.scratch = scratch;
      b.key_gradients = of_spans;
      if (i + 1 < part.n_tasks) {
        next = task_of(part, i + 1);
        b.next = &next;
      } else if (index + ctx_.pool.size() < n_items_ * n_splits_) {
        // Probably the worker's next part.
        const Part other = part_at(index + ctx_.pool.size());
        if (other.n_tasks > 0) next = task_of(other, 0), b.next = &next;
      }
      attention_backward(b);
    }
  }

  // The sums of rows [begin, end) of an item to d_k and d_v: those of the band, and of the kept rows.
  void write(int64_t item, const Sums& sums, int64_t begin, int64_t end) const {
    const PatternDocument& d = document(item);
    const int64_t kept = d.n_kept * stride_;
    const int64_t band = d.attention.n_rows * stride_;
    const int64_t* next = std::lower_bound(d.kept, d.kept + d.n_kept, d.attention.first_position + begin);
    const float* rows[2 * kMostSplits];
    for (int64_t r = begin; r < end; ++r) {
      const bool is_kept = next < d.kept + d.n_kept && *next == d.attention.first_position + r;
      const int64_t index = next - d.kept;
      if (is_kept) ++next;
      for (int which = 0; which < 2; ++which) {  // keys, values
        int64_t n = 0;
        for (int64_t s = 0; s < sums.n; ++s) {
          const float* first = sums.first + s * sums_size_;
          rows[n++] = first + 2 * kept + which * band + r * stride_;
          if (is_kept) rows[n++] = first + which * kept + index * stride_;
        }
        const Heads& to = which == 0 ? gradients_.d_k : gradients_.d_v;
        attention_sum_rows(rows, n, plan_.args.head_dim(), stream_,
                           to.at(d.attention.batch, d.attention.first_row + r, item % plan_.args.n_kv_heads));
      }
    }
    if (stream_) attention_end_stream();
  }

  void write_all() const {
    constexpr int64_t kRows = 256;
    const int64_t most = most_keys();
    const int64_t blocks = (most + kRows - 1) / kRows;
    parallel_for(ctx_, n_items_ * blocks, n_items_ * most * n_splits_ * plan_.args.head_dim(),
                 [&](int64_t task, int) {
                   const int64_t item = task / blocks;
                   const int64_t begin = task % blocks * kRows;
                   const int64_t end = std::min(begin + kRows, document(item).attention.n_rows);
                   write(item, {sums_ + item * n_splits_ * sums_size_, n_splits_}, begin, end);
                 });
  }

  const Context& ctx_;
  const PatternAttentionArgs& args_;
  const PatternAttentionGradients& gradients_;
  const PatternPlan plan_;
  const HeadChunks chunks_;
  const int64_t stride_;
  int64_t n_items_ = 0, n_splits_ = 1, sums_size_ = 0;
  bool stream_ = false;
  float* scratch_ = nullptr;
  float* sums_ = nullptr;
};

}  // namespace

void pattern_attention_backward(const Context& ctx, const PatternAttentionArgs& args,
                                const PatternAttentionGradients& gradients) {
  if (ctx.attention == AttentionImpl::kReference) {
    return pattern_attention_backward_reference(ctx, args, gradients);
  }
  SEPLLM_CHECK(args.out.data != nullptr && args.log_sum_exp.data != nullptr);
  const Arena::Scope scope(ctx.arena);
  Backward(ctx, args, gradients).run();
}

}  // namespace sepllm
