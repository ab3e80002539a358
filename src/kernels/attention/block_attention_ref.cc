// The reference of attention by blocks: masked attention (pattern_attention_ref.h) with the mask that the
// selection means, and the spans that each query sees where keys have other types than f32. For query i and
// query head h:
//
//   key j is visible iff j <= i, and j is in the block of i or in a block that (i, h) chose
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "attention/block_rule.h"
#include "kernels/attention/block_attention.h"
#include "kernels/attention/block_lists.h"
#include "kernels/attention/pattern_attention_ref.h"

namespace sepllm {
namespace {

// One kv head of one sequence, whose keys are its own rows.
class BlockHead {
 public:
  BlockHead(const AttentionArgs& a, const AttentionSequence& s, const BlockSelection& selection,
            const AttentionGradients& g, int64_t kv_head)
      : a_(a), s_(s), selection_(selection), g_(g), kv_head_(kv_head), dim_(a.head_dim()) {
    const KeySpan& span = s.spans[0];
    const auto* k = static_cast<const float*>(span.k) + kv_head * span.head_stride;
    const auto* v = static_cast<const float*>(span.v) + kv_head * span.head_stride;
    for (int64_t r = 0; r < s.n_rows; ++r) {
      k_.insert(k_.end(), k + r * span.slot_stride, k + r * span.slot_stride + dim_);
      v_.insert(v_.end(), v + r * span.slot_stride, v + r * span.slot_stride + dim_);
    }
  }

  void run() {
    std::vector<double> d_q(k_.size()), d_k(k_.size(), 0.0), d_v(k_.size(), 0.0);
    for (int64_t h = kv_head_ * a_.group(); h < (kv_head_ + 1) * a_.group(); ++h) {
      const auto visible = [&](int64_t i, int64_t j) { return sees(h, i, j); };
      const std::vector<double> q = load_head(a_.q, h), d_out = load_head(g_.d_out, h);
      const MaskedHead head{.visible = visible,
                            .n_rows = s_.n_rows,
                            .head_dim = dim_,
                            .scale = a_.scale,
                            .slope = a_.alibi_slopes != nullptr ? a_.alibi_slopes[h] : 0.0,
                            .q = q.data(),
                            .k = k_.data(),
                            .v = v_.data()};
      masked_head_backward(head, d_out.data(), d_q.data(), d_k.data(), d_v.data());
      store_head(d_q, g_.d_q, h);
    }
    store_head(d_k, g_.d_k, kv_head_);
    store_head(d_v, g_.d_v, kv_head_);
  }

 private:
  bool sees(int64_t head, int64_t i, int64_t j) const {
    const int64_t block = block_of(selection_.starts, s_.first_position + j);
    if (block == block_of(selection_.starts, s_.first_position + i)) return true;
    const std::span<const int32_t> chosen = selection_.of(i, head, a_.n_heads(), a_.group());
    return std::find(chosen.begin(), chosen.end(), block) != chosen.end();
  }
  std::vector<double> load_head(const Heads& x, int64_t head) const {
    std::vector<double> out;
    for (int64_t r = 0; r < s_.n_rows; ++r) {
      const float* row = x.at(s_.batch, s_.first_row + r, head);
      out.insert(out.end(), row, row + dim_);
    }
    return out;
  }
  void store_head(const std::vector<double>& from, const Heads& x, int64_t head) const {
    for (int64_t r = 0; r < s_.n_rows; ++r) {
      float* row = x.at(s_.batch, s_.first_row + r, head);
      for (int64_t d = 0; d < dim_; ++d) row[d] = static_cast<float>(from[static_cast<size_t>(r * dim_ + d)]);
    }
  }

  const AttentionArgs& a_;
  const AttentionSequence& s_;
  const BlockSelection& selection_;
  const AttentionGradients& g_;
  const int64_t kv_head_, dim_;
  std::vector<double> k_, v_;  // [n_rows][head_dim]
};

}  // namespace

void block_attention_reference(const Context& ctx, const AttentionArgs& args,
                               std::span<const BlockSelection> selections) {
  const Arena::Scope scope(ctx.arena);
  attention_reference(ctx, as_lists(ctx, args, selections));
}

void block_attention_backward_reference(const Context& ctx, const AttentionArgs& args,
                                        std::span<const BlockSelection> selections,
                                        const AttentionGradients& gradients) {
  for (size_t i = 0; i < selections.size(); ++i) {
    ctx.pool.parallel_for(args.n_kv_heads, [&](int64_t kv_head, int) {
      BlockHead(args, args.sequences[i], selections[i], gradients, kv_head).run();
    });
  }
}

}  // namespace sepllm
