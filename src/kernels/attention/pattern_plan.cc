#include "kernels/attention/pattern_plan.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>

#include "base/check.h"
#include "kernels/attention/attention_task.h"
#include "kernels/parallel.h"
#include "kernels/prefetch.h"

namespace sepllm {
namespace {

// Where the documents of a sequence begin: 0 first, then ascending, all below n_rows.
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
  const int64_t limit = end - p.window;  // later ones never leave the window
  const int64_t initial = std::min(begin + std::min(p.n_initial, end - begin), limit);
  for (int64_t j = begin; j < initial; ++j) kept.push_back(j);
  const auto first = std::lower_bound(p.extra.begin(), p.extra.end(), std::max(begin, initial));
  for (auto at = first; at != p.extra.end() && *at < limit; ++at) {
    if (kept.empty() || *at > kept.back()) kept.push_back(*at);
  }
  return kept;
}

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

// The compact span; its rows are copied by gather().
KeySpan compact_of(const Context& ctx, const PatternAttentionArgs& a, const Pattern& pattern,
                   const int64_t* kept, int64_t n_kept) {
  const int64_t stride = attention_tile_stride(a.k.layout.dim);
  KeySpan compact;
  compact.k = ctx.arena.allocate<float>(a.k.layout.n * n_kept * stride);
  compact.v = ctx.arena.allocate<float>(a.k.layout.n * n_kept * stride);
  compact.slot_stride = stride;
  compact.head_stride = n_kept * stride;
  compact.n_keys = n_kept;
  compact.positions = kept;
  compact.encoded = kept;
  compact.lag = pattern.window;
  return compact;
}

PatternDocument make_document(const Context& ctx, const PatternAttentionArgs& a, const PatternSequence& s,
                              int64_t begin, int64_t end, const int64_t* encoded) {
  const std::vector<int64_t> kept = kept_positions(*s.pattern, begin, end);
  PatternDocument d;
  d.n_kept = static_cast<int64_t>(kept.size());
  auto* spans = ctx.arena.allocate<KeySpan>(2);
  size_t n_spans = 0;
  if (d.n_kept > 0) {
    auto* positions = ctx.arena.allocate<int64_t>(d.n_kept);
    std::copy(kept.begin(), kept.end(), positions);
    d.kept = positions;
    spans[n_spans++] = compact_of(ctx, a, *s.pattern, positions, d.n_kept);
  }
  spans[n_spans++] = band_of(a, s, begin, end - begin);
  d.attention.batch = s.batch;
  d.attention.first_row = s.first_row + begin;
  d.attention.n_rows = end - begin;
  d.attention.first_position = begin;
  d.attention.spans = {spans, n_spans};
  if (encoded != nullptr) d.attention.encoded = encoded + begin;
  return d;
}

// Rows of kv head g.
void gather(const PatternAttentionArgs& a, const PatternDocument& d, const PatternSequence& s, int64_t g) {
  const KeySpan& compact = d.attention.spans.front();
  const int64_t bytes = a.k.layout.dim * static_cast<int64_t>(sizeof(float));
  // The plan made them: they are its own memory.
  auto* k = const_cast<float*>(static_cast<const float*>(compact.k)) + g * compact.head_stride;
  auto* v = const_cast<float*>(static_cast<const float*>(compact.v)) + g * compact.head_stride;
  const auto at = [&](const Heads& x, int64_t r) { return x.at(s.batch, s.first_row + d.kept[r], g); };
  constexpr int64_t kAhead = 16;
  for (int64_t r = 0; r < d.n_kept; ++r) {
    if (r + kAhead < d.n_kept) {
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

AttentionArgs attention_args(const PatternAttentionArgs& a) {
  AttentionArgs args;
  args.n_kv_heads = a.k.layout.n;
  args.scale = a.scale;
  args.q = a.q;
  args.out = a.out;
  args.alibi_slopes = a.alibi_slopes;
  check_heads(args);
  return args;
}

}  // namespace

PatternPlan make_pattern_plan(const Context& ctx, const PatternAttentionArgs& a) {
  check(a);
  std::vector<std::vector<int64_t>> starts;
  int64_t n_documents = 0;
  int64_t most_rows = 0;
  for (const PatternSequence& s : a.sequences) {
    starts.push_back(document_starts(s));
    n_documents += static_cast<int64_t>(starts.back().size());
    most_rows = std::max(most_rows, s.n_rows);
  }
  int64_t* encoded = nullptr;
  if (a.alibi_slopes != nullptr) {
    encoded = ctx.arena.allocate<int64_t>(most_rows);
    std::iota(encoded, encoded + most_rows, int64_t{0});
  }
  PatternPlan plan;
  plan.args = attention_args(a);
  auto* documents = ctx.arena.allocate<PatternDocument>(n_documents);
  std::vector<const PatternSequence*> sequences;
  int64_t n = 0, gathered = 0;
  for (size_t i = 0; i < a.sequences.size(); ++i) {
    const PatternSequence& s = a.sequences[i];
    for (size_t d = 0; d < starts[i].size() && s.n_rows > 0; ++d) {
      const int64_t end = d + 1 < starts[i].size() ? starts[i][d + 1] : s.n_rows;
      documents[n] = make_document(ctx, a, s, starts[i][d], end, encoded);
      gathered += documents[n].n_kept;
      sequences.push_back(&s);
      ++n;
    }
  }
  plan.documents = {documents, static_cast<size_t>(n)};
  const int64_t n_kv = a.k.layout.n;
  parallel_for(ctx, n * n_kv, gathered * n_kv * a.k.layout.dim, [&](int64_t task, int) {
    const PatternDocument& d = documents[task / n_kv];
    if (d.n_kept > 0) gather(a, d, *sequences[task / n_kv], task % n_kv);
  });
  return plan;
}

int64_t pattern_work(const PatternPlan& plan) {
  double pairs = 0;
  for (const PatternDocument& d : plan.documents) {
    const int64_t keys = std::min(d.attention.n_rows, d.attention.spans.back().window) + d.n_kept;
    pairs += static_cast<double>(d.attention.n_rows) * static_cast<double>(keys);
  }
  return static_cast<int64_t>(
      std::min(pairs * static_cast<double>(plan.args.n_heads() * plan.args.head_dim()), 1e15));
}

int64_t pattern_output_bytes(const PatternPlan& plan) {
  int64_t rows = 0;
  for (const PatternDocument& d : plan.documents) rows += d.attention.n_rows;
  return rows * plan.args.n_heads() * plan.args.head_dim() * static_cast<int64_t>(sizeof(float));
}

}  // namespace sepllm
