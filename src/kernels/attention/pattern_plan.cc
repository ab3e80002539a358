#include "kernels/attention/pattern_plan.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <numeric>
#include <span>
#include <vector>

#include "base/check.h"
#include "kernels/attention/attention_task.h"
#include "kernels/attention/attention_tiles.h"
#include "kernels/parallel.h"
#include "kernels/prefetch.h"

namespace sepllm {
namespace {

// Where the documents of a sequence begin: first 0, then ascending, all below n_rows.
std::vector<int64_t> document_starts(const PatternSequence& s) {
  std::vector<int64_t> starts{0};
  for (const int64_t start : s.pattern->document_starts) {
    if (start > starts.back() && start < s.n_rows) starts.push_back(start);
  }
  return starts;
}

// Positions of the document [begin, end) that are seen beyond the window by some query of it, ascending.
std::vector<int64_t> kept_positions(const Pattern& p, int64_t begin, int64_t end) {
  std::vector<int64_t> kept;
  if (p.window >= end - begin) return kept;
  const int64_t limit = end - p.window;  // later positions never leave the window
  const int64_t initial = std::min(begin + std::min(p.n_initial, end - begin), limit);
  for (int64_t j = begin; j < initial; ++j) kept.push_back(j);
  const auto first = std::lower_bound(p.extra.begin(), p.extra.end(), std::max(begin, initial));
  for (auto at = first; at != p.extra.end() && *at < limit; ++at) {
    if (kept.empty() || *at > kept.back()) kept.push_back(*at);
  }
  return kept;
}

// What is still to be done for a document of the plan.
struct Document {
  const PatternSequence* sequence;
  int64_t begin;                  // the position of its first token
  std::span<const int64_t> kept;  // the positions of the gathered rows
};

KeySpan band_of(const PatternAttentionArgs& a, const PatternSequence& s, int64_t begin, int64_t n) {
  KeySpan band;
  band.k = a.k.at(s.batch, s.first_row + begin, 0);
  band.v = a.v.at(s.batch, s.first_row + begin, 0);
  band.slot_stride = a.k.row_stride;
  band.head_stride = a.k.layout.even_stride();
  band.n_keys = n;
  band.first_position = begin;
  band.first_encoded = begin;
  band.window = s.pattern->window;
  return band;
}

// Creates the compact span; its rows are copied by gather(), and their gradients are summed after those of
// the document's n_rows own rows.
KeySpan compact_of(const Context& ctx, const PatternAttentionArgs& a, const Pattern& pattern,
                   std::span<const int64_t> kept, int64_t n_rows) {
  const int64_t stride = attention_tile_stride(a.k.layout.dim), n = std::ssize(kept);
  KeySpan compact;
  compact.kind = KeySpan::Kind::kCompact;
  compact.k = ctx.arena.allocate<float>(a.k.layout.n * n * stride);
  compact.v = ctx.arena.allocate<float>(a.k.layout.n * n * stride);
  compact.slot_stride = stride;
  compact.head_stride = n * stride;
  compact.n_keys = n;
  compact.positions = kept.data();
  compact.encoded = kept.data();
  compact.lag = pattern.window;
  compact.gradient_row = n_rows;
  return compact;
}

template <typename T>
std::span<const T> in_arena(const Context& ctx, const std::vector<T>& list) {
  auto* copy = ctx.arena.allocate<T>(std::ssize(list));
  std::copy(list.begin(), list.end(), copy);
  return {copy, list.size()};
}

// The document that begins at d.begin and has n rows.
AttentionSequence make_sequence(const Context& ctx, const PatternAttentionArgs& a, const Document& d,
                                int64_t n, const int64_t* encoded) {
  const PatternSequence& s = *d.sequence;
  AttentionSequence out;
  out.batch = s.batch;
  out.first_row = s.first_row + d.begin;
  out.n_rows = n;
  out.first_position = d.begin;
  if (encoded != nullptr) out.encoded = encoded + d.begin;
  out.keys = {.first = out.first_row, .n = n};
  std::vector<KeySpan> spans;
  if (!d.kept.empty()) {
    std::vector<int64_t> copies;
    for (const int64_t position : d.kept) copies.push_back(position - d.begin);
    out.keys.copies = in_arena(ctx, copies);
    spans.push_back(compact_of(ctx, a, *s.pattern, d.kept, n));
  }
  spans.push_back(band_of(a, s, d.begin, n));
  out.spans = in_arena(ctx, spans);
  return out;
}

// Copies the rows of kv head g.
void gather(const PatternAttentionArgs& a, const Document& d, const KeySpan& compact, int64_t g) {
  const PatternSequence& s = *d.sequence;
  const int64_t n = std::ssize(d.kept), bytes = a.k.layout.dim * static_cast<int64_t>(sizeof(float));
  // The plan allocated this memory itself, so it may write there.
  auto* k = const_cast<float*>(static_cast<const float*>(compact.k)) + g * compact.head_stride;
  auto* v = const_cast<float*>(static_cast<const float*>(compact.v)) + g * compact.head_stride;
  const auto at = [&](const Heads& x, int64_t r) { return x.at(s.batch, s.first_row + d.kept[r], g); };
  constexpr int64_t kAhead = 16;
  for (int64_t r = 0; r < n; ++r) {
    if (r + kAhead < n) {
      prefetch_row(at(a.k, r + kAhead), bytes);
      prefetch_row(at(a.v, r + kAhead), bytes);
    }
    std::memcpy(k + r * compact.slot_stride, at(a.k, r), bytes);
    std::memcpy(v + r * compact.slot_stride, at(a.v, r), bytes);
  }
}

void check(const PatternAttentionArgs& a) {
  const HeadLayout &k = a.k.layout, &v = a.v.layout;
  SEPLLM_CHECK(k.dim == a.q.layout.dim && v.dim == k.dim && v.n == k.n);
  SEPLLM_CHECK(k.even_stride() == v.even_stride() && a.k.row_stride == a.v.row_stride);
  for (const PatternSequence& s : a.sequences) {
    SEPLLM_CHECK(s.pattern != nullptr && s.pattern->window >= 1 && s.pattern->n_initial >= 0);
    SEPLLM_CHECK(s.n_rows >= 0 && s.n_rows < (int64_t{1} << 31));
  }
}

}  // namespace

AttentionArgs make_pattern_plan(const Context& ctx, const PatternAttentionArgs& a) {
  check(a);
  int64_t most_rows = 0;
  for (const PatternSequence& s : a.sequences) most_rows = std::max(most_rows, s.n_rows);
  int64_t* encoded = nullptr;
  if (a.alibi_slopes != nullptr) {
    encoded = ctx.arena.allocate<int64_t>(most_rows);
    std::iota(encoded, encoded + most_rows, int64_t{0});
  }
  std::vector<Document> documents;
  std::vector<AttentionSequence> sequences;
  int64_t gathered = 0;
  for (const PatternSequence& s : a.sequences) {
    const std::vector<int64_t> starts = document_starts(s);
    for (size_t d = 0; d < starts.size() && s.n_rows > 0; ++d) {
      const int64_t end = d + 1 < starts.size() ? starts[d + 1] : s.n_rows;
      documents.push_back({&s, starts[d], in_arena(ctx, kept_positions(*s.pattern, starts[d], end))});
      sequences.push_back(make_sequence(ctx, a, documents.back(), end - starts[d], encoded));
      gathered += std::ssize(documents.back().kept);
    }
  }
  const int64_t n_kv = a.k.layout.n;
  parallel_for(ctx, std::ssize(documents) * n_kv, gathered * n_kv * a.k.layout.dim, [&](int64_t task, int) {
    const Document& d = documents[task / n_kv];
    if (!d.kept.empty()) gather(a, d, sequences[task / n_kv].spans.front(), task % n_kv);
  });
  const AttentionArgs plan{.n_kv_heads = n_kv,
                           .scale = a.scale,
                           .q = a.q,
                           .out = a.out,
                           .log_sum_exp = a.log_sum_exp,
                           .alibi_slopes = a.alibi_slopes,
                           .sequences = in_arena(ctx, sequences)};
  check_attention(plan);
  return plan;
}

}  // namespace sepllm
