// Attention by a pattern and its gradients as they are defined: a loop over all pairs, in double precision.
#include "kernels/attention/pattern_attention_ref.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/attention/pattern_attention.h"

namespace sepllm {
namespace {

using Row = std::vector<double>;

double dot(const double* x, const double* y, int64_t n) {
  double sum = 0;
  for (int64_t d = 0; d < n; ++d) sum += x[d] * y[d];
  return sum;
}

// y += factor * x
void add_scaled(double factor, const double* x, int64_t n, double* y) {
  for (int64_t d = 0; d < n; ++d) y[d] += factor * x[d];
}

// The keys that one query sees and what the softmax gives each.
struct Weights {
  std::vector<int64_t> keys;
  Row values;
  double log_sum_exp = 0;
};

void softmax_row(const PatternHead& h, int64_t i, Weights& w) {
  const int64_t n = h.head_dim;
  w.keys.clear();
  w.values.clear();
  double top = -INFINITY;
  for (int64_t j = 0; j <= i; ++j) {
    if (!h.pattern->visible(i, j)) continue;
    w.keys.push_back(j);
    w.values.push_back(h.scale * dot(h.q + i * n, h.k + j * n, n) + h.slope * static_cast<double>(j - i));
    top = std::max(top, w.values.back());
  }
  double total = 0;
  for (double& value : w.values) total += value = std::exp(value - top);
  for (double& value : w.values) value /= total;
  w.log_sum_exp = top + std::log(total);
}

// Where the head's rows lie in the caller's floats: row r at data + r * row_stride.
template <typename Float>
struct FloatRows {
  Float* data;
  int64_t row_stride;
};

Row load(const FloatRows<const float>& rows, int64_t n_rows, int64_t head_dim) {
  Row out(static_cast<size_t>(n_rows * head_dim));
  for (int64_t r = 0; r < n_rows; ++r)
    std::copy_n(rows.data + r * rows.row_stride, head_dim, out.data() + r * head_dim);
  return out;
}

void store(const Row& from, int64_t n_rows, int64_t head_dim, const FloatRows<float>& rows) {
  for (int64_t r = 0; r < n_rows; ++r) {
    std::transform(from.data() + r * head_dim, from.data() + (r + 1) * head_dim,
                   rows.data + r * rows.row_stride, [](double x) { return static_cast<float>(x); });
  }
}

// Places of the query head's and its kv head's rows of one sequence.
int64_t query_place(const PatternAttentionArgs& a, const PatternSequence& s, int64_t head, int64_t row_stride,
                    int64_t group_stride) {
  const int64_t group = a.n_heads / a.n_kv_heads;
  return s.first_row * row_stride + head / group * group_stride + head % group * a.head_dim;
}
int64_t out_place(const PatternAttentionArgs& a, const PatternSequence& s, int64_t head, int64_t row_stride) {
  return s.first_row * row_stride + head * a.head_dim;
}

// The operands of one kv head in double, and of its query heads one after the other.
class Operands {
 public:
  Operands(const PatternAttentionArgs& a, const PatternSequence& s, int64_t kv_head) : a_(a), s_(s) {
    const int64_t at = s.first_row * a.kv_row_stride + kv_head * a.kv_head_stride;
    k_ = load({a.k + at, a.kv_row_stride}, s.n_rows, a.head_dim);
    v_ = load({a.v + at, a.kv_row_stride}, s.n_rows, a.head_dim);
  }
  // Valid until the next call.
  PatternHead head(int64_t head) {
    q_ = load({a_.q + query_place(a_, s_, head, a_.q_row_stride, a_.q_group_stride), a_.q_row_stride},
              s_.n_rows, a_.head_dim);
    return {.pattern = s_.pattern,
            .n_rows = s_.n_rows,
            .head_dim = a_.head_dim,
            .scale = a_.scale,
            .slope = a_.alibi_slopes != nullptr ? a_.alibi_slopes[head] : 0.0,
            .q = q_.data(),
            .k = k_.data(),
            .v = v_.data()};
  }

 private:
  const PatternAttentionArgs& a_;
  const PatternSequence& s_;
  Row q_, k_, v_;
};

void forward_head(const PatternAttentionArgs& a, const PatternSequence& s, int64_t head) {
  Operands operands(a, s, head / (a.n_heads / a.n_kv_heads));
  Row out(static_cast<size_t>(s.n_rows * a.head_dim)), log_sum_exp(static_cast<size_t>(s.n_rows));
  pattern_head_forward(operands.head(head), out.data(), log_sum_exp.data());
  store(out, s.n_rows, a.head_dim, {a.out + out_place(a, s, head, a.out_row_stride), a.out_row_stride});
  if (a.log_sum_exp == nullptr) return;
  store(log_sum_exp, s.n_rows, 1, {a.log_sum_exp + s.first_row * a.n_heads + head, a.n_heads});
}

void backward_kv_head(const PatternAttentionArgs& a, const PatternAttentionGradients& g,
                      const PatternSequence& s, int64_t kv_head) {
  const auto size = static_cast<size_t>(s.n_rows * a.head_dim);
  const int64_t group = a.n_heads / a.n_kv_heads;
  Operands operands(a, s, kv_head);
  Row d_q(size), d_k(size, 0.0), d_v(size, 0.0);
  for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    const Row d_out =
        load({g.d_out + out_place(a, s, head, g.d_out_row_stride), g.d_out_row_stride}, s.n_rows, a.head_dim);
    pattern_head_backward(operands.head(head), d_out.data(), d_q.data(), d_k.data(), d_v.data());
    store(d_q, s.n_rows, a.head_dim,
          {g.d_q + query_place(a, s, head, g.d_q_row_stride, g.d_q_group_stride), g.d_q_row_stride});
  }
  const int64_t at = s.first_row * g.d_kv_row_stride + kv_head * g.d_kv_head_stride;
  store(d_k, s.n_rows, a.head_dim, {g.d_k + at, g.d_kv_row_stride});
  store(d_v, s.n_rows, a.head_dim, {g.d_v + at, g.d_kv_row_stride});
}

}  // namespace

void pattern_head_forward(const PatternHead& h, double* out, double* log_sum_exp) {
  const int64_t n = h.head_dim;
  Weights w;
  for (int64_t i = 0; i < h.n_rows; ++i) {
    softmax_row(h, i, w);
    log_sum_exp[i] = w.log_sum_exp;
    std::fill_n(out + i * n, n, 0.0);
    for (size_t e = 0; e < w.keys.size(); ++e) add_scaled(w.values[e], h.v + w.keys[e] * n, n, out + i * n);
  }
}

void pattern_head_backward(const PatternHead& h, const double* d_out, double* d_q, double* d_k, double* d_v) {
  const int64_t n = h.head_dim;
  Weights w;
  Row d_weight;
  for (int64_t i = 0; i < h.n_rows; ++i) {
    const double* d_o = d_out + i * n;
    softmax_row(h, i, w);
    d_weight.clear();
    double mean = 0;  // of d_weight under the softmax: what its derivative takes off
    for (size_t e = 0; e < w.keys.size(); ++e) {
      d_weight.push_back(dot(d_o, h.v + w.keys[e] * n, n));
      mean += w.values[e] * d_weight[e];
    }
    std::fill_n(d_q + i * n, n, 0.0);
    for (size_t e = 0; e < w.keys.size(); ++e) {
      const int64_t j = w.keys[e];
      const double d_score = w.values[e] * (d_weight[e] - mean) * h.scale;
      add_scaled(w.values[e], d_o, n, d_v + j * n);
      add_scaled(d_score, h.q + i * n, n, d_k + j * n);
      add_scaled(d_score, h.k + j * n, n, d_q + i * n);
    }
  }
}

void pattern_attention_reference(const Context& ctx, const PatternAttentionArgs& a) {
  for (const PatternSequence& s : a.sequences)
    ctx.pool.parallel_for(a.n_heads, [&](int64_t head, int) { forward_head(a, s, head); });
}

void pattern_attention_backward_reference(const Context& ctx, const PatternAttentionArgs& a,
                                          const PatternAttentionGradients& g) {
  for (const PatternSequence& s : a.sequences)
    ctx.pool.parallel_for(a.n_kv_heads, [&](int64_t kv_head, int) { backward_kv_head(a, g, s, kv_head); });
}

}  // namespace sepllm
