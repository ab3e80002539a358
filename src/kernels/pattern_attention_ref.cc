// Attention by a pattern and its gradients as they are defined: a loop over all pairs, in double precision.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/pattern_attention.h"

namespace sepllm {
namespace {

using Row = std::vector<double>;

// One sequence seen from one query head.
struct HeadView {
  const PatternAttentionArgs& a;
  const PatternSequence& s;
  int64_t head;

  int64_t group() const { return a.n_heads / a.n_kv_heads; }
  int64_t kv_head() const { return head / group(); }
  int64_t q_at(int64_t r, int64_t row_stride, int64_t group_stride) const {
    return (s.first_row + r) * row_stride + kv_head() * group_stride + head % group() * a.head_dim;
  }
  int64_t kv_at(int64_t r, int64_t row_stride, int64_t head_stride) const {
    return (s.first_row + r) * row_stride + kv_head() * head_stride;
  }
  const float* q(int64_t r) const { return a.q + q_at(r, a.q_row_stride, a.q_group_stride); }
  const float* k(int64_t r) const { return a.k + kv_at(r, a.kv_row_stride, a.kv_head_stride); }
  const float* v(int64_t r) const { return a.v + kv_at(r, a.kv_row_stride, a.kv_head_stride); }
};

double dot(const float* x, const float* y, int64_t n) {
  double sum = 0;
  for (int64_t d = 0; d < n; ++d) sum += static_cast<double>(x[d]) * y[d];
  return sum;
}

// weights[j] for keys j <= i (0 where not visible); returns the logarithm of the sum of exponentials.
double softmax_row(const HeadView& h, int64_t i, Row& weights) {
  const PatternAttentionArgs& a = h.a;
  double top = -INFINITY;
  for (int64_t j = 0; j <= i; ++j) {
    weights[j] = -INFINITY;
    if (!h.s.pattern->visible(i, j)) continue;
    weights[j] = a.scale * dot(h.q(i), h.k(j), a.head_dim);
    if (a.alibi_slopes != nullptr) weights[j] += a.alibi_slopes[h.head] * static_cast<double>(j - i);
    top = std::max(top, weights[j]);
  }
  double total = 0;
  for (int64_t j = 0; j <= i; ++j) total += weights[j] = std::exp(weights[j] - top);
  for (int64_t j = 0; j <= i; ++j) weights[j] /= total;
  return top + std::log(total);
}

void forward_row(const HeadView& h, int64_t i, Row& weights) {
  const PatternAttentionArgs& a = h.a;
  const double log_sum = softmax_row(h, i, weights);
  const int64_t row = h.s.first_row + i;
  if (a.log_sum_exp != nullptr) a.log_sum_exp[row * a.n_heads + h.head] = static_cast<float>(log_sum);
  Row sum(a.head_dim, 0.0);
  for (int64_t j = 0; j <= i; ++j) {
    if (weights[j] == 0) continue;
    for (int64_t d = 0; d < a.head_dim; ++d) sum[d] += weights[j] * h.v(j)[d];
  }
  float* out = a.out + row * a.out_row_stride + h.head * a.head_dim;
  for (int64_t d = 0; d < a.head_dim; ++d) out[d] = static_cast<float>(sum[d]);
}

// Sums of one kv head over its query heads and rows: [n_rows * head_dim].
struct KvSums {
  Row k, v;
};

void backward_row(const HeadView& h, const PatternAttentionGradients& g, int64_t i, Row& weights,
                  KvSums& sums) {
  const PatternAttentionArgs& a = h.a;
  const int64_t n = a.head_dim;
  softmax_row(h, i, weights);
  const float* d_out = g.d_out + (h.s.first_row + i) * g.d_out_row_stride + h.head * n;
  double delta = 0;  // sum over d of out * d_out
  for (int64_t j = 0; j <= i; ++j) delta += weights[j] * dot(d_out, h.v(j), n);
  Row d_q(n, 0.0);
  for (int64_t j = 0; j <= i; ++j) {
    if (weights[j] == 0) continue;
    const double d_score = weights[j] * (dot(d_out, h.v(j), n) - delta) * a.scale;
    for (int64_t d = 0; d < n; ++d) {
      sums.v[j * n + d] += weights[j] * d_out[d];
      sums.k[j * n + d] += d_score * h.q(i)[d];
      d_q[d] += d_score * h.k(j)[d];
    }
  }
  float* to = g.d_q + h.q_at(i, g.d_q_row_stride, g.d_q_group_stride);
  for (int64_t d = 0; d < n; ++d) to[d] = static_cast<float>(d_q[d]);
}

}  // namespace

void pattern_attention_reference(const Context& ctx, const PatternAttentionArgs& a) {
  for (const PatternSequence& s : a.sequences) {
    ctx.pool.parallel_for(a.n_heads, [&](int64_t head, int) {
      Row weights(s.n_rows);
      for (int64_t i = 0; i < s.n_rows; ++i) forward_row({a, s, head}, i, weights);
    });
  }
}

void pattern_attention_backward_reference(const Context& ctx, const PatternAttentionArgs& a,
                                          const PatternAttentionGradients& g) {
  const int64_t group = a.n_heads / a.n_kv_heads;
  for (const PatternSequence& s : a.sequences) {
    ctx.pool.parallel_for(a.n_kv_heads, [&](int64_t kv_head, int) {
      Row weights(s.n_rows);
      KvSums sums{Row(s.n_rows * a.head_dim, 0.0), Row(s.n_rows * a.head_dim, 0.0)};
      for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
        for (int64_t i = 0; i < s.n_rows; ++i) backward_row({a, s, head}, g, i, weights, sums);
      }
      for (int64_t j = 0; j < s.n_rows; ++j) {
        const int64_t at = (s.first_row + j) * g.d_kv_row_stride + kv_head * g.d_kv_head_stride;
        for (int64_t d = 0; d < a.head_dim; ++d) {
          g.d_k[at + d] = static_cast<float>(sums.k[j * a.head_dim + d]);
          g.d_v[at + d] = static_cast<float>(sums.v[j * a.head_dim + d]);
        }
      }
    });
  }
}

}  // namespace sepllm
