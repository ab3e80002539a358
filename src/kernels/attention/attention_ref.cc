#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "kernels/attention/attention.h"
#include "kernels/formats/element.h"

namespace sepllm {
namespace {

int64_t count_keys(const AttentionSequence& s) {
  int64_t n = 0;
  for (const KeySpan& span : s.spans) n += span.n_keys;
  return n;
}

double dot(const float* q, DType type, const void* k, int64_t offset, int64_t n) {
  double sum = 0;
  for (int64_t d = 0; d < n; ++d) sum += static_cast<double>(q[d]) * load_element(type, k, offset + d);
  return sum;
}

// Scratch of one worker.
struct Scratch {
  double* scores;  // one for each visible key
  double* sum;     // [head_dim]
};

// Calls fn(span, key row) for every key that row `r` of the sequence sees.
template <typename Fn>
void for_each_key(const AttentionSequence& s, int64_t r, const Fn& fn) {
  for (const KeySpan& span : s.spans) {
    const auto [lo, hi] = span.range(s.first_position + r);
    for (int64_t j = lo; j < hi; ++j) fn(span, j);
  }
}

void attend(const AttentionArgs& a, const AttentionSequence& s, int64_t r, int64_t head, const Scratch& t) {
  const int64_t kv_head = head / a.group();
  const int64_t row = s.first_row + r;
  const int64_t dim = a.head_dim();
  int64_t n = 0;
  const auto scale_of = [&](const KeySpan& span, const float* scales, int64_t j) {
    return s.kv_type == DType::kI8 ? static_cast<double>(scales[kv_head * span.scale_head_stride + j]) : 1.0;
  };
  for_each_key(s, r, [&](const KeySpan& span, int64_t j) {
    const Heads& q = span.second_query && a.second_q.data != nullptr ? a.second_q : a.q;
    double score = a.scale * scale_of(span, span.k_scales, j) *
                   dot(q.at(s.batch, row, head), s.kv_type, span.k,
                       kv_head * span.head_stride + j * span.slot_stride, dim);
    if (a.alibi_slopes != nullptr) {
      const int64_t* places = span.second_query && s.second_encoded != nullptr ? s.second_encoded : s.encoded;
      score +=
          static_cast<double>(a.alibi_slopes[head]) * static_cast<double>(span.encoded_at(j) - places[r]);
    }
    t.scores[n++] = score;
  });
  SEPLLM_CHECK(n > 0);
  const double top = *std::max_element(t.scores, t.scores + n);
  double total = 0;
  for (int64_t i = 0; i < n; ++i) total += t.scores[i] = std::exp(t.scores[i] - top);
  std::fill_n(t.sum, dim, 0.0);
  n = 0;
  for_each_key(s, r, [&](const KeySpan& span, int64_t j) {
    const double p = t.scores[n++] / total * scale_of(span, span.v_scales, j);
    const int64_t offset = kv_head * span.head_stride + j * span.slot_stride;
    for (int64_t d = 0; d < dim; ++d) t.sum[d] += p * load_element(s.kv_type, span.v, offset + d);
  });
  float* out = a.out.at(s.batch, row, head);
  for (int64_t d = 0; d < dim; ++d) out[d] = static_cast<float>(t.sum[d]);
}

}  // namespace

void attention_reference(const Context& ctx, const AttentionArgs& args) {
  const Arena::Scope scope(ctx.arena);
  int64_t max_keys = 0;
  for (const AttentionSequence& s : args.sequences) max_keys = std::max(max_keys, count_keys(s));
  const int64_t per_worker = max_keys + args.head_dim();
  double* scratch = ctx.arena.allocate<double>(per_worker * ctx.pool.size());
  for (const AttentionSequence& s : args.sequences) {
    const int64_t n_heads = args.n_heads();
    ctx.pool.parallel_for(s.n_rows * n_heads, [&](int64_t task, int worker) {
      double* mine = scratch + worker * per_worker;
      attend(args, s, task / n_heads, task % n_heads, {mine, mine + max_keys});
    });
  }
}

}  // namespace sepllm
