// How attention is cut into tiles: chunks of heads that share a kv head, times rows of one sequence. The
// shapes of tiles never depend on the number of threads.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/attention/attention.h"
#include "kernels/attention/attention_task.h"

namespace sepllm {

// Bad arguments are failed checks.
void check_attention(const AttentionArgs& args);

// The query heads that read one kv head, cut into chunks that fit a tile; one chunk if all of them fit.
struct HeadChunks {
  explicit HeadChunks(const AttentionArgs& a) : group(a.group()), n_kv_heads(a.n_kv_heads) {
    per_group = (group + kAttentionTileLanes - 1) / kAttentionTileLanes;
    heads = (group + per_group - 1) / per_group;
    per_group = (group + heads - 1) / heads;
  }
  int64_t count() const { return n_kv_heads * per_group; }
  void set(int64_t chunk, AttentionTask* t) const {
    const int64_t within = chunk % per_group * heads;
    t->head = chunk / per_group * group + within;
    t->n_heads = std::min(heads, group - within);
  }
  int64_t group, n_kv_heads;
  int64_t heads;      // maximum number of heads in a chunk
  int64_t per_group;  // chunks of one kv head
};

// The rows of a sequence in tiles of at most `rows`. No tile crosses the border between two tiles of the
// sequence's lists of spans.
class RowTiles {
 public:
  RowTiles() = default;
  RowTiles(const AttentionSequence& s, int64_t rows)
      : n_rows_(s.n_rows), list_rows_(s.lists != nullptr ? s.tile_rows : std::max<int64_t>(1, s.n_rows)) {
    rows_ = std::min(rows, list_rows_);
    per_list_ = (list_rows_ + rows_ - 1) / rows_;
  }
  int64_t count() const {
    return n_rows_ / list_rows_ * per_list_ + (n_rows_ % list_rows_ + rows_ - 1) / rows_;
  }
  int64_t first(int64_t tile) const { return tile / per_list_ * list_rows_ + tile % per_list_ * rows_; }
  int64_t size(int64_t tile) const {
    return std::min({rows_, list_rows_ - tile % per_list_ * rows_, n_rows_ - first(tile)});
  }

 private:
  int64_t n_rows_ = 0;
  int64_t list_rows_ = 1;  // rows of the tiles that the sequence's lists use
  int64_t rows_ = 1;
  int64_t per_list_ = 1;
};

// Tiles for kernels with vectors along queries. They have fewer rows if queries see only a small window in
// addition to compact keys.
RowTiles wide_tiles(const AttentionSequence& s, const HeadChunks& chunks);

// The number of keys that any of the rows [row, row + n) of a kv head sees.
int64_t keys_of_rows(const AttentionSequence& s, int64_t kv_head, int64_t row, int64_t n);

// The task of tile [row, row + n) and a chunk of heads of a sequence, with all its keys.
AttentionTask make_task(const AttentionArgs& a, const AttentionSequence& s, const HeadChunks& chunks,
                        int64_t chunk, int64_t row, int64_t n);

// Approximate number of multiply-adds of one of the products, to decide whether threads are worth waking.
// Saturates.
int64_t attention_work(const AttentionArgs& args);
// Whether the output is so large that it has left the cache when it is read.
bool is_large_output(const AttentionArgs& args);

// How attention() and attention by a pattern run.
struct ForwardOptions {
  // Sequences are short compared with their keys, as in decoding: few lanes use attention_few, and if there
  // are few rows, the keys are split as well.
  bool decoding = true;
  bool stream_output = false;  // a large output is written past the caches
};
void attention_forward(const Context& ctx, const AttentionArgs& args, const ForwardOptions& options);

}  // namespace sepllm
