// The reference of attention over spans: the definition in double precision, to be read and to compare with.
// For each query row and head, over the keys that its spans show:
//
//   score_j = scale * q . k_j + slope * (place of key j - place of the query)
//   p_j = exp(score_j) / sum exp(score)
//   out = sum p_j v_j
//   log_sum_exp = ln(sum exp(score))
//
// Backward, given d_out, the gradient of a loss with respect to out:
//
//   d_p_j = d_out . v_j
//   d_score_j = p_j (d_p_j - sum p d_p)
//   d_q = scale sum d_score_j k_j
//   d_k_j += scale d_score_j q
//   d_v_j += p_j d_out
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <vector>

#include "base/check.h"
#include "kernels/attention/attention.h"
#include "kernels/attention/attention_tiles.h"
#include "kernels/formats/element.h"

namespace sepllm {
namespace {

// A key that a query sees: row `row` of a span.
struct Key {
  const KeySpan* span;
  int64_t row;
};

// One query row and head: the keys that it sees, and their weights.
class Query {
 public:
  Query(const AttentionArgs& a, const AttentionSequence& s, int64_t row, int64_t head)
      : a_(a), s_(s), row_(row), head_(head), kv_head_(head / a.group()) {
    // Step 1: the keys, a range of rows of each span.
    for (const KeySpan& span : s.spans_of(kv_head_, row)) {
      const auto [lo, hi] = span.range(s.first_position + row);
      for (int64_t j = lo; j < hi; ++j) keys_.push_back({&span, j});
    }
    SEPLLM_CHECK(!keys_.empty());
    // Step 2: the scores, then their softmax in place. The largest score is subtracted so that exp cannot
    // overflow.
    for (const Key& key : keys_) weights_.push_back(score(key));
    const double top = *std::max_element(weights_.begin(), weights_.end());
    double total = 0;
    for (double& w : weights_) total += w = std::exp(w - top);
    for (double& w : weights_) w /= total;
    log_sum_exp_ = top + std::log(total);
  }

  const std::vector<Key>& keys() const { return keys_; }
  double weight(size_t i) const { return weights_[i]; }
  double log_sum_exp() const { return log_sum_exp_; }
  // This row and head, in heads with the layout of the queries or the output.
  float* at(const Heads& x) const { return x.at(s_.batch, s_.first_row + row_, head_); }

  double k(const Key& key, int64_t d) const { return element(key, key.span->k, key.span->k_scales, d); }
  double v(const Key& key, int64_t d) const { return element(key, key.span->v, key.span->v_scales, d); }

 private:
  // Element d of a key's row; int8 is multiplied by the scale of the row.
  double element(const Key& key, const void* rows, const float* scales, int64_t d) const {
    const KeySpan& span = *key.span;
    const int64_t offset = kv_head_ * span.head_stride + key.row * span.slot_stride;
    const double scale = s_.kv_type == DType::kI8 ? scales[kv_head_ * span.scale_head_stride + key.row] : 1.0;
    return scale * load_element(s_.kv_type, rows, offset + d);
  }

  // The scaled product of the query and a key, and ALiBi's bias.
  double score(const Key& key) const {
    const bool second = key.span->second_query;
    const float* q = at(second && a_.second_q.data != nullptr ? a_.second_q : a_.q);
    double dot = 0;
    for (int64_t d = 0; d < a_.head_dim(); ++d) dot += static_cast<double>(q[d]) * k(key, d);
    if (a_.alibi_slopes == nullptr) return a_.scale * dot;
    const int64_t* places = second && s_.second_encoded != nullptr ? s_.second_encoded : s_.encoded;
    const int64_t distance = key.span->encoded_at(key.row) - places[row_];
    return a_.scale * dot + static_cast<double>(a_.alibi_slopes[head_]) * static_cast<double>(distance);
  }

  const AttentionArgs& a_;
  const AttentionSequence& s_;
  const int64_t row_, head_, kv_head_;
  std::vector<Key> keys_;
  std::vector<double> weights_;  // one weight per key
  double log_sum_exp_ = 0;
};

void store_row(const double* from, int64_t n, float* to) {
  std::transform(from, from + n, to, [](double x) { return static_cast<float>(x); });
}

// Forward pass of one query row and head: out[head_dim] = the weighted sum of the values.
void attend(const AttentionArgs& a, const AttentionSequence& s, int64_t row, int64_t head) {
  const Query query(a, s, row, head);
  std::vector<double> out(a.head_dim());
  for (size_t i = 0; i < query.keys().size(); ++i) {
    for (int64_t d = 0; d < a.head_dim(); ++d) out[d] += query.weight(i) * query.v(query.keys()[i], d);
  }
  store_row(out.data(), a.head_dim(), query.at(a.out));
  if (a.log_sum_exp.data != nullptr) *query.at(a.log_sum_exp) = static_cast<float>(query.log_sum_exp());
}

// Gradients of one kv head of a sequence. Those of its keys are summed over the query heads that share it.
class BackwardHead {
 public:
  BackwardHead(const AttentionArgs& a, const AttentionGradients& g, const AttentionSequence& s,
               int64_t kv_head)
      : a_(a), g_(g), s_(s), kv_head_(kv_head), dim_(a.head_dim()) {
    const int64_t n = s.keys.n + std::ssize(s.keys.copies);
    d_k_.resize(n * dim_);
    d_v_.resize(n * dim_);
  }

  void run() {
    for (int64_t head = kv_head_ * a_.group(); head < (kv_head_ + 1) * a_.group(); ++head) {
      for (int64_t row = 0; row < s_.n_rows; ++row) add_query(Query(a_, s_, row, head));
    }
    store(d_k_, g_.d_k);
    store(d_v_, g_.d_v);
  }

 private:
  // Adds one query's part to d_k and d_v, and sets its d_q.
  void add_query(const Query& query) {
    const std::vector<Key>& keys = query.keys();
    const float* q = query.at(a_.q);
    const float* d_out = query.at(g_.d_out);
    std::vector<double> d_weights(keys.size()), d_q(dim_);
    double mean = 0;  // weighted mean of d_weights; the softmax's derivative subtracts it
    // Step 1: gradients of the weights (d_p above).
    for (size_t i = 0; i < keys.size(); ++i) {
      for (int64_t d = 0; d < dim_; ++d) d_weights[i] += d_out[d] * query.v(keys[i], d);
      mean += query.weight(i) * d_weights[i];
    }
    // Step 2: gradients of the scores, and from them those of the query, the key and the value.
    for (size_t i = 0; i < keys.size(); ++i) {
      const double d_score = query.weight(i) * (d_weights[i] - mean) * a_.scale;
      const int64_t sum = (keys[i].span->gradient_row + keys[i].row) * dim_;
      for (int64_t d = 0; d < dim_; ++d) {
        d_q[d] += d_score * query.k(keys[i], d);
        d_k_[sum + d] += d_score * q[d];
        d_v_[sum + d] += query.weight(i) * d_out[d];
      }
    }
    store_row(d_q.data(), dim_, query.at(g_.d_q));
  }

  // Writes the gradients of all key rows. If a row has a copy, the copy's sum is added.
  void store(std::vector<double>& sums, const Heads& to) const {
    for (size_t i = 0; i < s_.keys.copies.size(); ++i) {
      const double* copy = sums.data() + (s_.keys.n + static_cast<int64_t>(i)) * dim_;
      double* row = sums.data() + s_.keys.copies[i] * dim_;
      std::transform(row, row + dim_, copy, row, std::plus<>());
    }
    for (int64_t r = 0; r < s_.keys.n; ++r) {
      store_row(sums.data() + r * dim_, dim_, to.at(s_.batch, s_.keys.first + r, kv_head_));
    }
  }

  const AttentionArgs& a_;
  const AttentionGradients& g_;
  const AttentionSequence& s_;
  const int64_t kv_head_, dim_;
  std::vector<double> d_k_, d_v_;  // [sums of the sequence's KeyRows][head_dim]
};

}  // namespace

void attention_reference(const Context& ctx, const AttentionArgs& args) {
  check_attention(args);
  const int64_t n_heads = args.n_heads();
  for (const AttentionSequence& s : args.sequences) {
    ctx.pool.parallel_for(s.n_rows * n_heads,
                          [&](int64_t task, int) { attend(args, s, task / n_heads, task % n_heads); });
  }
}

void attention_backward_reference(const Context& ctx, const AttentionArgs& args,
                                  const AttentionGradients& gradients) {
  check_attention(args);
  for (const AttentionSequence& s : args.sequences) {
    ctx.pool.parallel_for(args.n_kv_heads,
                          [&](int64_t kv_head, int) { BackwardHead(args, gradients, s, kv_head).run(); });
  }
}

}  // namespace sepllm
