#include "kernels/attention/nsa_forward.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <vector>

#include "base/check.h"
#include "kernels/attention/attention_tiles.h"
#include "kernels/attention/block_attention.h"
#include "kernels/blas.h"
#include "kernels/parallel.h"
#include "kernels/rowwise/elementwise_backward.h"

namespace sepllm {
namespace {

// Rows whose scores are computed at a time.
constexpr int64_t kSelectRows = 32;
// A weight takes about as long as this many multiply-adds.
constexpr int64_t kSelectWork = 16;

// Some rows of one document and a kv head, whose blocks are chosen together.
struct SelectTask {
  const NsaQueries* queries;
  int64_t row, n_rows;
};

// scores[r][b] += the weight of block b for row r, for one query head. `scratch`: as large as `scores`.
void add_weights(const NsaPlan& p, const SelectTask& t, int64_t head, int64_t n_blocks, float* scratch,
                 float* scores) {
  const NsaQueries& s = *t.queries;
  const Heads& k = s.mean_k;
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, static_cast<int>(t.n_rows), static_cast<int>(n_blocks),
              static_cast<int>(p.q.layout.dim), p.scale, p.q.at(s.batch, s.first_row + t.row, head),
              static_cast<int>(p.q.row_stride), k.at(0, head / p.group()), static_cast<int>(k.row_stride),
              0.0F, scratch, static_cast<int>(n_blocks));
  for (int64_t r = 0; r < t.n_rows; ++r) {
    float* row = scratch + r * n_blocks;
    const int64_t n = p.rule.complete(s.position(t.row + r));
    if (n == 0) continue;
    softmax_row(row, n, *std::max_element(row, row + n), 1.0F);
    double total = 0;
    for (int64_t b = 0; b < n; ++b) total += row[b];
    const auto factor = static_cast<float>(1.0 / total);
    for (int64_t b = 0; b < n; ++b) scores[r * n_blocks + b] += row[b] * factor;
  }
}

void select_rows(const NsaPlan& p, const SelectTask& t, int64_t kv_head, float* scratch) {
  const NsaQueries& s = *t.queries;
  const int64_t last = s.position(t.row + t.n_rows - 1), n_blocks = p.rule.complete(last);
  float* scores = scratch;
  std::fill_n(scores, t.n_rows * n_blocks, 0.0F);
  // Where all blocks are chosen, scores make no difference.
  if (p.rule.own(last) >= p.rule.blocks) {
    for (int64_t head = kv_head * p.group(); head < (kv_head + 1) * p.group(); ++head)
      add_weights(p, t, head, n_blocks, scratch + t.n_rows * n_blocks, scores);
  }
  std::vector<int32_t> others;
  for (int64_t r = 0; r < t.n_rows; ++r) {
    nsa_choose(p.rule, s.position(t.row + r), scores + r * n_blocks, &others,
               s.selection + ((t.row + r) * p.n_kv_heads + kv_head) * p.rule.chosen());
  }
}

template <typename T>
std::span<const T> in_arena(const Context& ctx, const std::vector<T>& list) {
  auto* copy = ctx.arena.allocate<T>(std::ssize(list));
  std::copy(list.begin(), list.end(), copy);
  return {copy, list.size()};
}

// The keys [begin, begin + n) of a document as a band.
KeySpan part_of(const NsaQueries& s, int64_t begin, int64_t n) {
  KeySpan out = s.keys;
  const int64_t offset = begin * s.keys.slot_stride * dtype_size(s.kv_type);
  out.kind = KeySpan::Kind::kBand;
  out.k = static_cast<const char*>(s.keys.k) + offset;
  out.v = static_cast<const char*>(s.keys.v) + offset;
  if (out.k_scales != nullptr) out.k_scales += begin, out.v_scales += begin;
  out.n_keys = n;
  out.first_position = out.first_encoded = out.gradient_row = begin;
  return out;
}

AttentionSequence rows_of(const NsaQueries& s, int64_t first_row) {
  return {.batch = s.batch,
          .first_row = s.first_row + first_row,
          .n_rows = s.n_rows - first_row,
          .first_position = s.position(first_row),
          .kv_type = s.kv_type,
          .keys = {.first = s.first_row, .n = s.keys.n_keys}};
}

AttentionSequence window_of(const Context& ctx, const NsaPlan& p, const NsaQueries& s) {
  AttentionSequence out = rows_of(s, 0);
  const int64_t begin = std::max<int64_t>(0, s.first_position - p.rule.window + 1);
  KeySpan band = part_of(s, begin, s.keys.n_keys - begin);
  band.window = p.rule.window;
  out.spans = in_arena(ctx, std::vector<KeySpan>{band});
  return out;
}

// All keys in one span, as block_attention() takes them.
AttentionSequence selected_of(const Context& ctx, const NsaQueries& s) {
  AttentionSequence out = rows_of(s, 0);
  out.spans = in_arena(ctx, std::vector<KeySpan>{part_of(s, 0, s.keys.n_keys)});
  return out;
}

AttentionSequence compressed_of(const Context& ctx, const NsaPlan& p, const NsaQueries& s,
                                int64_t first_row) {
  AttentionSequence out = rows_of(s, first_row);
  const int64_t n = s.complete(p.rule);
  auto* ends = ctx.arena.allocate<int64_t>(n);
  for (int64_t b = 0; b < n; ++b) ends[b] = (b + 1) * p.rule.block_size - 1;
  KeySpan span;
  span.kind = KeySpan::Kind::kCompact;
  span.k = s.mean_k.data;
  span.v = s.mean_v.data;
  span.slot_stride = s.mean_k.row_stride;
  span.head_stride = s.mean_k.layout.even_stride();
  span.n_keys = n;
  span.positions = ends;
  out.kv_type = DType::kF32;
  out.spans = in_arena(ctx, std::vector<KeySpan>{span});
  return out;
}

// The rows of the queries that see no block.
int64_t rows_without_blocks(const NsaPlan& p, const NsaQueries& s) {
  return std::clamp<int64_t>(p.rule.block_size - 1 - s.first_position, 0, s.n_rows);
}

}  // namespace

void nsa_select(const Context& ctx, const NsaPlan& p) {
  single_threaded_blas();
  const Arena::Scope scope(ctx.arena);
  std::vector<SelectTask> tasks;
  int64_t most_blocks = 0, work = 0;
  for (const NsaQueries& s : p.queries) {
    for (int64_t row = 0; row < s.n_rows; row += kSelectRows)
      tasks.push_back({&s, row, std::min(kSelectRows, s.n_rows - row)});
    most_blocks = std::max(most_blocks, s.complete(p.rule));
    work += s.n_rows * s.complete(p.rule) * p.q.layout.n * (p.q.layout.dim + kSelectWork);
    // (A plan for memory may run the attention without this choice.)
    std::fill_n(s.selection, s.n_rows * p.n_kv_heads * p.rule.chosen(), -1);
  }
  const int64_t per_worker = 2 * kSelectRows * most_blocks;
  float* scratch = ctx.arena.allocate<float>(per_worker * ctx.pool.size());
  parallel_for(ctx, std::ssize(tasks) * p.n_kv_heads, work, [&](int64_t task, int worker) {
    select_rows(p, tasks[task / p.n_kv_heads], task % p.n_kv_heads, scratch + worker * per_worker);
  });
}

AttentionArgs nsa_branch(const Context& ctx, const NsaPlan& p, NsaBranch branch) {
  const auto which = static_cast<size_t>(branch);
  std::vector<AttentionSequence> sequences;
  int64_t first_block = 0;
  for (const NsaQueries& s : p.queries) {
    if (branch == NsaBranch::kWindow) sequences.push_back(window_of(ctx, p, s));
    if (branch == NsaBranch::kSelected) sequences.push_back(selected_of(ctx, s));
    if (branch != NsaBranch::kCompressed) continue;
    const int64_t n_blocks = s.complete(p.rule), hidden = rows_without_blocks(p, s);
    if (hidden < s.n_rows) {
      sequences.push_back(compressed_of(ctx, p, s, hidden));
      sequences.back().keys = {.first = first_block, .n = n_blocks};
    }
    first_block += n_blocks;
  }
  return {.n_kv_heads = p.n_kv_heads,
          .scale = p.scale,
          .q = p.q,
          .out = p.out[which],
          .log_sum_exp = p.log_sum_exp[which],
          .sequences = in_arena(ctx, sequences)};
}

std::span<const BlockSelection> nsa_selections(const Context& ctx, const NsaPlan& p) {
  int64_t most = 0;
  for (const NsaQueries& s : p.queries) most = std::max(most, p.rule.own(s.position(s.n_rows - 1)) + 1);
  auto* starts = ctx.arena.allocate<int64_t>(most);
  for (int64_t b = 0; b < most; ++b) starts[b] = b * p.rule.block_size;
  auto* out = ctx.arena.allocate<BlockSelection>(std::ssize(p.queries));
  for (size_t i = 0; i < p.queries.size(); ++i) {
    const NsaQueries& s = p.queries[i];
    out[i] = {.starts = {starts, static_cast<size_t>(p.rule.own(s.position(s.n_rows - 1)) + 1)},
              .chosen = s.selection,
              .n_choosers = p.n_kv_heads,
              .n_chosen = p.rule.chosen()};
  }
  return {out, p.queries.size()};
}

void nsa_forward(const Context& ctx, const NsaPlan& p, bool decoding) {
  nsa_select(ctx, p);
  for (const NsaBranch branch : {NsaBranch::kCompressed, NsaBranch::kSelected, NsaBranch::kWindow}) {
    const Arena::Scope scope(ctx.arena);
    const AttentionArgs args = nsa_branch(ctx, p, branch);
    if (branch == NsaBranch::kSelected) {
      block_attention(ctx, args, nsa_selections(ctx, p));
      continue;
    }
    if (ctx.attention == AttentionImpl::kReference) {
      attention_reference(ctx, args);
      continue;
    }
    check_attention(args);
    attention_forward(ctx, args, {.decoding = decoding, .stream_output = !decoding && is_large_output(args)});
  }
  const Heads& out = p.out[static_cast<size_t>(NsaBranch::kCompressed)];
  for (const NsaQueries& s : p.queries) {
    for (int64_t r = 0; r < rows_without_blocks(p, s); ++r) {
      for (int64_t h = 0; h < out.layout.n; ++h)
        std::fill_n(out.at(s.batch, s.first_row + r, h), out.layout.dim, 0.0F);
    }
  }
}

}  // namespace sepllm
