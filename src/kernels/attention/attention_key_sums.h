// Gradients of keys and values while they are summed. What is summed by one task at a time is an item: a kv
// head of a sequence, or a part (split) of its queries. Each has its own memory, so that sums are added in a
// fixed order.
#pragma once

#include <cstdint>
#include <iterator>

#include "kernels/attention/attention.h"
#include "tensor/context.h"

namespace sepllm {

// Bad arguments of a backward pass are failed checks.
void check_backward(const AttentionArgs& args, const AttentionGradients& gradients);

class KeySums {
 public:
  static int64_t n_sums(const KeyRows& keys) { return keys.n + std::ssize(keys.copies); }
  // The number of parts of an item: one, unless there are too few items to keep the threads busy; never more
  // than `most`.
  static int64_t choose_splits(const Context& ctx, const AttentionArgs& args,
                               const AttentionGradients& gradients, int64_t most);

  // Memory is in ctx.arena. stream: the gradients are written past the caches.
  KeySums(const Context& ctx, const AttentionArgs& args, const AttentionGradients& gradients,
          int64_t n_splits, bool stream);

  // The sums of part `index` = item * n_splits + split, all zero; item = sequence * n_kv_heads + kv head.
  // First those of the keys, [n_sums][attention_tile_stride], and then those of the values.
  float* of(int64_t index, int worker) const;
  // The part is complete. (An item of one part is written now, because the worker's memory is used again.)
  void added(int64_t index, int worker) const;
  // All parts are complete: writes the rest.
  void finish() const;

 private:
  const AttentionSequence& sequence(int64_t item) const { return args_.sequences[item / args_.n_kv_heads]; }
  void write(int64_t item, const float* parts, int64_t begin, int64_t end) const;

  const Context& ctx_;
  const AttentionArgs& args_;
  const AttentionGradients& gradients_;
  const int64_t n_items_, n_splits_, stride_;
  const bool stream_;
  int64_t most_sums_ = 0, most_rows_ = 0;  // over all sequences
  int64_t size_ = 0;                       // of a part
  float* sums_ = nullptr;
};

}  // namespace sepllm
