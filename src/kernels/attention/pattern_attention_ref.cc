// The reference of attention by a pattern and of its gradients: the definition in double precision, a loop
// over all pairs. For each query i, over the keys j that it sees:
//
//   score_j = scale * q_i . k_j + slope * (j - i)
//   p = softmax(score)
//   out_i = sum p_j v_j
//   d_score_j = p_j (d_out_i . v_j - sum over keys of p (d_out_i . v))
//   d_q_i = scale sum d_score_j k_j
//   d_k_j += scale d_score_j q_i
//   d_v_j += p_j d_out_i
#include "kernels/attention/pattern_attention_ref.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
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

// The keys that one query sees, and the weight that the softmax gives to each.
struct Weights {
  std::vector<int64_t> keys;
  Row values;
  double log_sum_exp = 0;
};

// p of query i: w.keys are the keys that it sees, w.values their weights.
void softmax_row(const MaskedHead& h, int64_t i, Weights& w) {
  const int64_t n = h.head_dim;
  w.keys.clear();
  w.values.clear();
  double top = -INFINITY;
  for (int64_t j = 0; j <= i; ++j) {
    if (!h.visible(i, j)) continue;
    w.keys.push_back(j);
    w.values.push_back(h.scale * dot(h.q + i * n, h.k + j * n, n) + h.slope * static_cast<double>(j - i));
    top = std::max(top, w.values.back());
  }
  // The largest score is subtracted so that exp cannot overflow.
  double total = 0;
  for (double& value : w.values) total += value = std::exp(value - top);
  for (double& value : w.values) value /= total;
  w.log_sum_exp = top + std::log(total);
}

// One head of a sequence in double: [n_rows][dim].
Row load(const Heads& x, const PatternSequence& s, int64_t head) {
  const int64_t dim = x.layout.dim;
  Row out(s.n_rows * dim);
  for (int64_t r = 0; r < s.n_rows; ++r)
    std::copy_n(x.at(s.batch, s.first_row + r, head), dim, out.data() + r * dim);
  return out;
}

void store(const Row& from, const PatternSequence& s, int64_t head, const Heads& x) {
  const int64_t dim = x.layout.dim;
  for (int64_t r = 0; r < s.n_rows; ++r) {
    std::transform(from.data() + r * dim, from.data() + (r + 1) * dim, x.at(s.batch, s.first_row + r, head),
                   [](double value) { return static_cast<float>(value); });
  }
}

// The operands of one kv head in double, and those of its query heads one after the other.
class Operands {
 public:
  Operands(const PatternAttentionArgs& a, const PatternSequence& s, int64_t kv_head)
      : a_(a), s_(s), visible_{s.pattern}, k_(load(a.k, s, kv_head)), v_(load(a.v, s, kv_head)) {}
  // The result is valid until the next call.
  MaskedHead head(int64_t head) {
    q_ = load(a_.q, s_, head);
    return {.visible = visible_,
            .n_rows = s_.n_rows,
            .head_dim = a_.q.layout.dim,
            .scale = a_.scale,
            .slope = a_.alibi_slopes != nullptr ? a_.alibi_slopes[head] : 0.0,
            .q = q_.data(),
            .k = k_.data(),
            .v = v_.data()};
  }

 private:
  const PatternAttentionArgs& a_;
  const PatternSequence& s_;
  struct Visible {
    const Pattern* pattern;
    bool operator()(int64_t i, int64_t j) const { return pattern->visible(i, j); }
  } visible_;
  Row k_, v_, q_;
};

int64_t group_of(const PatternAttentionArgs& a) { return a.q.layout.n / a.k.layout.n; }

void forward_head(const PatternAttentionArgs& a, const PatternSequence& s, int64_t head) {
  Operands operands(a, s, head / group_of(a));
  Row out(s.n_rows * a.q.layout.dim), log_sum_exp(s.n_rows);
  masked_head_forward(operands.head(head), out.data(), log_sum_exp.data());
  store(out, s, head, a.out);
  if (a.log_sum_exp.data != nullptr) store(log_sum_exp, s, head, a.log_sum_exp);
}

void backward_kv_head(const PatternAttentionArgs& a, const AttentionGradients& g, const PatternSequence& s,
                      int64_t kv_head) {
  const int64_t size = s.n_rows * a.q.layout.dim, group = group_of(a);
  Operands operands(a, s, kv_head);
  Row d_q(size), d_k(size, 0.0), d_v(size, 0.0);
  for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    const Row d_out = load(g.d_out, s, head);
    masked_head_backward(operands.head(head), d_out.data(), d_q.data(), d_k.data(), d_v.data());
    store(d_q, s, head, g.d_q);
  }
  store(d_k, s, kv_head, g.d_k);
  store(d_v, s, kv_head, g.d_v);
}

}  // namespace

void masked_head_forward(const MaskedHead& h, double* out, double* log_sum_exp) {
  const int64_t n = h.head_dim;
  Weights w;
  for (int64_t i = 0; i < h.n_rows; ++i) {
    softmax_row(h, i, w);
    log_sum_exp[i] = w.log_sum_exp;
    std::fill_n(out + i * n, n, 0.0);
    for (size_t e = 0; e < w.keys.size(); ++e) add_scaled(w.values[e], h.v + w.keys[e] * n, n, out + i * n);
  }
}

void masked_head_backward(const MaskedHead& h, const double* d_out, double* d_q, double* d_k, double* d_v) {
  const int64_t n = h.head_dim;
  Weights w;
  Row d_weight;
  for (int64_t i = 0; i < h.n_rows; ++i) {
    const double* d_o = d_out + i * n;
    // Step 1: the weights again, and their gradients d_out_i . v_j.
    softmax_row(h, i, w);
    d_weight.clear();
    double mean = 0;  // weighted mean of d_weight; the softmax's derivative subtracts it
    for (size_t e = 0; e < w.keys.size(); ++e) {
      d_weight.push_back(dot(d_o, h.v + w.keys[e] * n, n));
      mean += w.values[e] * d_weight[e];
    }
    // Step 2: gradients of the scores, and from them those of q_i, k_j and v_j.
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
    ctx.pool.parallel_for(a.q.layout.n, [&](int64_t head, int) { forward_head(a, s, head); });
}

void pattern_attention_backward_reference(const Context& ctx, const PatternAttentionArgs& a,
                                          const AttentionGradients& g) {
  for (const PatternSequence& s : a.sequences)
    ctx.pool.parallel_for(a.k.layout.n, [&](int64_t kv_head, int) { backward_kv_head(a, g, s, kv_head); });
}

}  // namespace sepllm
