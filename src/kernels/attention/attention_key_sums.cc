#include "kernels/attention/attention_key_sums.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <span>

#include "kernels/attention/attention_backward_task.h"
#include "kernels/attention/attention_task.h"
#include "kernels/parallel.h"

namespace sepllm {
namespace {

// The number of threads for which items are split if the split must not depend on the real number.
constexpr int64_t kNominalThreads = 8;
constexpr int64_t kMostSplits = 64;

}  // namespace

int64_t KeySums::choose_splits(const Context& ctx, const AttentionArgs& args,
                               const AttentionGradients& gradients, int64_t most) {
  const int64_t threads = gradients.same_for_any_threads ? kNominalThreads : ctx.pool.size();
  const int64_t n_items = std::ssize(args.sequences) * args.n_kv_heads;
  if (threads == 1 || n_items % threads == 0 || n_items >= 4 * threads) return 1;
  return std::min({std::max<int64_t>(1, most), kMostSplits, (4 * threads + n_items - 1) / n_items});
}

KeySums::KeySums(const Context& ctx, const AttentionArgs& args, const AttentionGradients& gradients,
                 int64_t n_splits, bool stream)
    : ctx_(ctx),
      args_(args),
      gradients_(gradients),
      n_items_(std::ssize(args.sequences) * args.n_kv_heads),
      n_splits_(n_splits),
      stride_(attention_tile_stride(args.head_dim())),
      stream_(stream) {
  for (const AttentionSequence& s : args.sequences) {
    most_sums_ = std::max(most_sums_, n_sums(s.keys));
    most_rows_ = std::max(most_rows_, s.keys.n);
  }
  size_ = 2 * most_sums_ * stride_;
  sums_ = ctx.arena.allocate<float>((n_splits == 1 ? ctx.pool.size() : n_items_ * n_splits) * size_);
}

float* KeySums::of(int64_t index, int worker) const {
  float* out = sums_ + (n_splits_ == 1 ? worker : index) * size_;
  std::fill_n(out, 2 * n_sums(sequence(index / n_splits_).keys) * stride_, 0.0F);
  return out;
}

void KeySums::added(int64_t index, int worker) const {
  if (n_splits_ == 1) write(index, sums_ + worker * size_, 0, sequence(index).keys.n);
}

void KeySums::finish() const {
  if (n_splits_ == 1) return;
  constexpr int64_t kRows = 256;
  const int64_t blocks = (most_rows_ + kRows - 1) / kRows;
  parallel_for(ctx_, n_items_ * blocks, n_items_ * most_sums_ * n_splits_ * args_.head_dim(),
               [&](int64_t task, int) {
                 const int64_t item = task / blocks;
                 const int64_t begin = task % blocks * kRows;
                 const int64_t end = std::min(begin + kRows, sequence(item).keys.n);
                 write(item, sums_ + item * n_splits_ * size_, begin, end);
               });
}

// Writes the sums of key rows [begin, end) of an item, whose parts begin at `parts`, to d_k and d_v: for each
// row, its own sum and that of its copy.
void KeySums::write(int64_t item, const float* parts, int64_t begin, int64_t end) const {
  const AttentionSequence& s = sequence(item);
  const std::span<const int64_t> copies = s.keys.copies;
  const int64_t n = n_sums(s.keys) * stride_, kv_head = item % args_.n_kv_heads;
  auto next = std::lower_bound(copies.begin(), copies.end(), begin);
  const float* rows[2 * kMostSplits];
  for (int64_t r = begin; r < end; ++r) {
    const bool is_copied = next != copies.end() && *next == r;
    const int64_t copy = s.keys.n + (next - copies.begin());
    if (is_copied) ++next;
    for (int which = 0; which < 2; ++which) {  // 0: keys, 1: values
      int64_t n_rows = 0;
      for (int64_t i = 0; i < n_splits_; ++i) {
        const float* first = parts + i * size_ + which * n;
        rows[n_rows++] = first + r * stride_;
        if (is_copied) rows[n_rows++] = first + copy * stride_;
      }
      const Heads& to = which == 0 ? gradients_.d_k : gradients_.d_v;
      attention_sum_rows(rows, n_rows, args_.head_dim(), stream_, to.at(s.batch, s.keys.first + r, kv_head));
    }
  }
  if (stream_) attention_end_stream();
}

}  // namespace sepllm
