#include "kernels/attention/attention_tiles.h"

#include <algorithm>
#include <cstdint>

#include "base/check.h"

namespace sepllm {

void check_attention(const AttentionArgs& a) {
  SEPLLM_CHECK(a.n_kv_heads >= 1 && a.n_heads() >= a.n_kv_heads && a.n_heads() % a.n_kv_heads == 0);
  SEPLLM_CHECK(a.head_dim() >= 1 && a.head_dim() <= 1024);
  SEPLLM_CHECK(a.out.layout.n == a.n_heads() && a.out.layout.dim == a.head_dim());
  SEPLLM_CHECK(a.second_q.data == nullptr || a.second_q.layout.n == a.n_heads());
  SEPLLM_CHECK(a.log_sum_exp.data == nullptr || a.log_sum_exp.layout.n == a.n_heads());
  for (const AttentionSequence& s : a.sequences) {
    SEPLLM_CHECK(s.n_rows >= 0 && s.n_rows < (int64_t{1} << 31));
    SEPLLM_CHECK(s.lists == nullptr || s.tile_rows >= 1);
    SEPLLM_CHECK(a.alibi_slopes == nullptr || s.n_rows == 0 || s.encoded != nullptr);
  }
}

RowTiles wide_tiles(const AttentionSequence& s, const HeadChunks& chunks) {
  int64_t window = 1;
  for (const KeySpan& span : s.spans) {
    if (span.kind == KeySpan::Kind::kBand) window = std::max(window, span.window);
  }
  const int64_t lanes = window <= kAttentionNarrowWindow ? kAttentionNarrowTileLanes : kAttentionTileLanes;
  return {s, std::max<int64_t>(1, lanes / chunks.heads)};
}

int64_t keys_of_rows(const AttentionSequence& s, int64_t kv_head, int64_t row, int64_t n) {
  const int64_t first = s.first_position + row;
  int64_t keys = 0;
  for (const KeySpan& span : s.spans_of(kv_head, row)) {
    keys += std::max<int64_t>(0, range_of_rows(span, first, first + n - 1).size());
  }
  return keys;
}

int64_t attention_work(const AttentionArgs& a) {
  double pairs = 0;
  for (const AttentionSequence& s : a.sequences) {
    double keys = 0;  // keys of a row, as if every span were seen in full
    for (const KeySpan& span : s.spans) keys += static_cast<double>(std::min(span.n_keys, span.window));
    if (s.lists != nullptr)
      keys /= static_cast<double>(a.n_kv_heads * ((s.n_rows + s.tile_rows - 1) / s.tile_rows));
    pairs += static_cast<double>(s.n_rows) * keys;
  }
  return static_cast<int64_t>(std::min(pairs * static_cast<double>(a.n_heads() * a.head_dim()), 1e15));
}

bool is_large_output(const AttentionArgs& a) {
  int64_t rows = 0;
  for (const AttentionSequence& s : a.sequences) rows += s.n_rows;
  return rows * a.n_heads() * a.head_dim() * static_cast<int64_t>(sizeof(float)) >= kAttentionStreamBytes;
}

AttentionTask make_task(const AttentionArgs& a, const AttentionSequence& s, const HeadChunks& chunks,
                        int64_t chunk, int64_t row, int64_t n) {
  AttentionTask t{};
  t.args = &a;
  t.sequence = &s;
  t.row = row;
  t.n_rows = n;
  chunks.set(chunk, &t);
  t.spans = s.spans_of(t.kv_head(), row);
  t.key_end = kUnlimited;
  return t;
}

}  // namespace sepllm
