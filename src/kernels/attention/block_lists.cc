#include "kernels/attention/block_lists.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>

#include "kernels/attention/block_lanes.h"
#include "kernels/formats/element.h"

namespace sepllm {
namespace {

// The span of one head: its kv head is the only one.
KeySpan of_head(KeySpan span, DType type, int64_t kv_head) {
  span.k = element_at(type, span.k, kv_head * span.head_stride);
  span.v = element_at(type, span.v, kv_head * span.head_stride);
  if (span.k_scales != nullptr) {
    span.k_scales += kv_head * span.scale_head_stride;
    span.v_scales += kv_head * span.scale_head_stride;
  }
  span.head_stride = span.scale_head_stride = 0;
  return span;
}

AttentionSequence lists_of(const Context& ctx, const AttentionArgs& args, const AttentionSequence& s,
                           const BlockSelection& selection) {
  const int64_t n_heads = args.n_heads();
  auto* lists = ctx.arena.allocate<int64_t>(n_heads * s.n_rows + 1);
  auto* spans = ctx.arena.allocate<KeySpan>(n_heads * s.n_rows * (selection.n_chosen + 1));
  int64_t n_spans = 0, n_lists = 0;
  lists[0] = 0;
  for (int64_t h = 0; h < n_heads; ++h) {
    for (int64_t r = 0; r < s.n_rows; ++r) {
      const int64_t first = n_spans;
      const auto add = [&](int64_t b) {
        const KeySpan span = of_head(block_span(s, selection, b), s.kv_type, h / args.group());
        KeySpan* last = n_spans > first ? &spans[n_spans - 1] : nullptr;
        if (last != nullptr && last->first_position + last->n_keys == span.first_position) {
          last->n_keys += span.n_keys;
        } else {
          spans[n_spans++] = span;
        }
      };
      for (const int32_t b : selection.of(r, h, n_heads, args.group())) {
        if (b < 0) break;
        add(b);
      }
      add(block_of(selection.starts, s.first_position + r));
      lists[++n_lists] = n_spans;
    }
  }
  AttentionSequence out = s;
  out.spans = {spans, static_cast<size_t>(n_spans)};
  out.lists = lists;
  out.tile_rows = 1;
  return out;
}

}  // namespace

AttentionArgs as_lists(const Context& ctx, const AttentionArgs& args,
                       std::span<const BlockSelection> selections) {
  auto* sequences = ctx.arena.allocate<AttentionSequence>(std::ssize(args.sequences));
  for (size_t i = 0; i < args.sequences.size(); ++i)
    sequences[i] = lists_of(ctx, args, args.sequences[i], selections[i]);
  AttentionArgs out = args;
  out.n_kv_heads = args.n_heads();
  out.sequences = {sequences, args.sequences.size()};
  return out;
}

}  // namespace sepllm
