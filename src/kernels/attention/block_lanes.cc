#include "kernels/attention/block_lanes.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>

#include "base/check.h"
#include "kernels/attention/attention_tiles.h"
#include "kernels/formats/element.h"

namespace sepllm {

void check_blocks(const AttentionArgs& args, std::span<const BlockSelection> selections) {
  check_attention(args);
  SEPLLM_CHECK(selections.size() == args.sequences.size() && args.second_q.data == nullptr);
  for (size_t i = 0; i < selections.size(); ++i) {
    const AttentionSequence& s = args.sequences[i];
    const BlockSelection& selection = selections[i];
    SEPLLM_CHECK(s.lists == nullptr && s.spans.size() == 1);
    const KeySpan& keys = s.spans[0];
    SEPLLM_CHECK(keys.kind == KeySpan::Kind::kBand && keys.lag == 0 && keys.window == kUnlimited);
    SEPLLM_CHECK(!keys.second_query && keys.encoded == nullptr);
    SEPLLM_CHECK(!selection.starts.empty() && selection.starts[0] == keys.first_position);
    SEPLLM_CHECK(s.n_rows == 0 || (selection.starts[0] <= s.first_position &&
                                   keys.first_position + keys.n_keys >= s.first_position + s.n_rows));
    SEPLLM_CHECK(selection.n_choosers == args.n_heads() || selection.n_choosers == args.n_kv_heads);
    SEPLLM_CHECK(selection.n_chosen == 0 || selection.chosen != nullptr);
  }
}

KeySpan block_span(const AttentionSequence& s, const BlockSelection& selection, int64_t b) {
  KeySpan out = s.spans[0];
  const std::span<const int64_t> starts = selection.starts;
  const int64_t begin = starts[static_cast<size_t>(b)] - out.first_position;
  const int64_t end =
      b + 1 < std::ssize(starts) ? starts[static_cast<size_t>(b + 1)] - out.first_position : out.n_keys;
  out.k = element_at(s.kv_type, out.k, begin * out.slot_stride);
  out.v = element_at(s.kv_type, out.v, begin * out.slot_stride);
  if (out.k_scales != nullptr) out.k_scales += begin, out.v_scales += begin;
  out.n_keys = std::min(end, out.n_keys) - begin;
  out.first_position += begin;
  out.first_encoded += begin;
  out.gradient_row += begin;
  return out;
}

AttentionTask block_task(const AttentionArgs& args, const AttentionSequence& s, const KeySpan* span) {
  AttentionTask t{};
  t.args = &args;
  t.sequence = &s;
  t.spans = {span, 1};
  t.key_end = kUnlimited;
  return t;
}

BlockLanes::BlockLanes(const Context& ctx, int64_t n_queries, int64_t n_chosen, int64_t n_blocks)
    : lanes_(ctx.arena.allocate<QueryLane>(n_queries * n_chosen)),
      ends_(ctx.arena.allocate<int64_t>(n_blocks + 2)),
      most_lanes_(n_queries * n_chosen),
      most_blocks_(n_blocks) {}

void BlockLanes::sort(const AttentionArgs& args, const AttentionSequence& s, const BlockSelection& selection,
                      int64_t row, int64_t n_rows, int64_t head, int64_t n_heads) {
  SEPLLM_CHECK(n_rows * n_heads * selection.n_chosen <= most_lanes_);
  n_blocks_ = block_of(selection.starts, s.first_position + row + n_rows - 1);  // all before the last row's
  SEPLLM_CHECK(n_blocks_ <= most_blocks_);
  const auto for_each = [&](const auto& fn) {
    for (int64_t r = row; r < row + n_rows; ++r) {
      for (int64_t h = head; h < head + n_heads; ++h) {
        for (const int32_t b : selection.of(r, h, args.n_heads(), args.group())) {
          if (b < 0) break;
          fn(r, h, b);
        }
      }
    }
  };
  // ends_[b + 2] counts the queries of b; then ends_[b + 1] is where they begin, and grows to where they end.
  std::fill_n(ends_, n_blocks_ + 2, int64_t{0});
  for_each([&](int64_t, int64_t, int32_t b) {
    SEPLLM_CHECK(b < n_blocks_);
    ++ends_[b + 2];
  });
  for (int64_t b = 2; b <= n_blocks_ + 1; ++b) ends_[b] += ends_[b - 1];
  for_each([&](int64_t r, int64_t h, int32_t b) {
    lanes_[ends_[b + 1]++] = {static_cast<int32_t>(r), static_cast<int32_t>(h)};
  });
}

}  // namespace sepllm
