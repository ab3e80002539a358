// The reference of NSA, in double precision and from its definition. The keys of the three branches of one
// head of a document are rows of a matrix, and a rule says which rows a query sees:
//
//   compressed   row b: the mean of block b             visible if the block's last position is at most i
//   selected     row j: key j                           visible if j <= i and j's block is chosen, or the
//   query's own window       row j: key j                           visible if j <= i and i - j < window
//
// The softmax over what is visible, and its gradients, are those of the reference of attention by a pattern.
#include "kernels/attention/nsa_ref.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/check.h"
#include "kernels/attention/pattern_attention_ref.h"

namespace sepllm {
namespace {

using Rows = std::vector<double>;  // [rows][head_dim]

Rows rows_of(const Heads& x, const NsaDocument& d, int64_t head) {
  Rows out;
  for (int64_t r = 0; r < d.n_rows; ++r) {
    const float* row = x.at(d.first_row + r, head);
    out.insert(out.end(), row, row + x.layout.dim);
  }
  return out;
}

void store_rows_of(const Rows& from, const NsaDocument& d, int64_t head, const Heads& to) {
  const int64_t dim = to.layout.dim;
  for (int64_t r = 0; r < d.n_rows; ++r) {
    std::transform(from.data() + r * dim, from.data() + (r + 1) * dim, to.at(d.first_row + r, head),
                   [](double x) { return static_cast<float>(x); });
  }
}

// The means of the complete blocks; as many rows as x has, of which those after the last block are 0.
Rows block_means(const NsaRule& rule, const Rows& x, int64_t n_rows, int64_t dim) {
  Rows out(x.size(), 0.0);
  for (int64_t j = 0; j < n_rows / rule.block_size * rule.block_size; ++j) {
    for (int64_t d = 0; d < dim; ++d)
      out[rule.own(j) * dim + d] += x[j * dim + d] / static_cast<double>(rule.block_size);
  }
  return out;
}

// d_x += what the gradients of the means give.
void add_block_means_gradient(const NsaRule& rule, const Rows& d_means, int64_t n_rows, int64_t dim,
                              Rows* d_x) {
  for (int64_t j = 0; j < n_rows / rule.block_size * rule.block_size; ++j) {
    for (int64_t d = 0; d < dim; ++d)
      (*d_x)[j * dim + d] += d_means[rule.own(j) * dim + d] / static_cast<double>(rule.block_size);
  }
}

// The operands of one kv head of a document.
class KvHead {
 public:
  KvHead(const NsaArgs& a, const NsaDocument& d, int64_t kv_head)
      : a_(a),
        d_(d),
        kv_head_(kv_head),
        k_(rows_of(a.k, d, kv_head)),
        v_(rows_of(a.v, d, kv_head)),
        mean_k_(block_means(a.rule, k_, d.n_rows, a.k.layout.dim)),
        mean_v_(block_means(a.rule, v_, d.n_rows, a.k.layout.dim)) {}

  // Calls fn(the branch, its MaskedHead) for the three branches of a query head.
  template <typename Fn>
  void for_each_branch(int64_t head, const Fn& fn) const {
    const Rows q = rows_of(a_.q, d_, head);
    const auto complete = [this](int64_t i, int64_t b) { return b < a_.rule.complete(i); };
    const auto chosen = [this](int64_t i, int64_t j) {
      const int32_t* first = a_.selected(d_.first_row + i, kv_head_);
      const int32_t* last = first + a_.rule.chosen();
      return a_.rule.own(j) == a_.rule.own(i) || std::find(first, last, a_.rule.own(j)) != last;
    };
    const auto near = [this](int64_t i, int64_t j) { return i - j < a_.rule.window; };
    const auto call = [&](NsaBranch branch, FunctionRef<bool(int64_t, int64_t)> visible, const Rows& k,
                          const Rows& v) {
      fn(branch, MaskedHead{.visible = visible,
                            .n_rows = d_.n_rows,
                            .head_dim = a_.q.layout.dim,
                            .scale = a_.scale,
                            .q = q.data(),
                            .k = k.data(),
                            .v = v.data()});
    };
    call(NsaBranch::kCompressed, complete, mean_k_, mean_v_);
    call(NsaBranch::kSelected, chosen, k_, v_);
    call(NsaBranch::kWindow, near, k_, v_);
  }

  const Rows& mean_k() const { return mean_k_; }

 private:
  const NsaArgs& a_;
  const NsaDocument& d_;
  const int64_t kv_head_;
  const Rows k_, v_, mean_k_, mean_v_;
};

void forward_kv_head(const NsaArgs& a, const NsaDocument& d, int64_t kv_head) {
  const KvHead operands(a, d, kv_head);
  for (int64_t head = kv_head * a.group(); head < (kv_head + 1) * a.group(); ++head) {
    operands.for_each_branch(head, [&](NsaBranch branch, const MaskedHead& masked) {
      const auto b = static_cast<size_t>(branch);
      Rows out(d.n_rows * a.q.layout.dim), log_sum_exp(d.n_rows);
      masked_head_forward(masked, out.data(), log_sum_exp.data());
      store_rows_of(out, d, head, a.out[b]);
      if (a.log_sum_exp[b].data != nullptr) store_rows_of(log_sum_exp, d, head, a.log_sum_exp[b]);
    });
  }
}

void backward_kv_head(const NsaArgs& a, const NsaGradients& g, const NsaDocument& d, int64_t kv_head) {
  const KvHead operands(a, d, kv_head);
  const int64_t dim = a.q.layout.dim, size = d.n_rows * dim;
  Rows d_k(size), d_v(size), d_mean_k(size), d_mean_v(size);
  for (int64_t head = kv_head * a.group(); head < (kv_head + 1) * a.group(); ++head) {
    Rows d_q(size);
    operands.for_each_branch(head, [&](NsaBranch branch, const MaskedHead& masked) {
      const bool means = branch == NsaBranch::kCompressed;
      const Rows d_out = rows_of(g.d_out[static_cast<size_t>(branch)], d, head);
      Rows own(size);
      masked_head_backward(masked, d_out.data(), own.data(), (means ? d_mean_k : d_k).data(),
                           (means ? d_mean_v : d_v).data());
      for (int64_t e = 0; e < size; ++e) d_q[e] += own[e];
    });
    store_rows_of(d_q, d, head, g.d_q);
  }
  add_block_means_gradient(a.rule, d_mean_k, d.n_rows, dim, &d_k);
  add_block_means_gradient(a.rule, d_mean_v, d.n_rows, dim, &d_v);
  store_rows_of(d_k, d, kv_head, g.d_k);
  store_rows_of(d_v, d, kv_head, g.d_v);
}

// Calls fn(document, kv head) for all of them.
template <typename Fn>
void for_each_kv_head(const Context& ctx, const NsaArgs& a, const Fn& fn) {
  for (const NsaSequence& s : a.sequences) {
    const std::vector<NsaDocument> documents = nsa_documents(s);
    const auto n = static_cast<int64_t>(documents.size()) * a.k.layout.n;
    ctx.pool.parallel_for(
        n, [&](int64_t task, int) { fn(documents[task / a.k.layout.n], task % a.k.layout.n); });
  }
}

}  // namespace

std::vector<NsaDocument> nsa_documents(const NsaSequence& s) {
  std::vector<NsaDocument> out;
  int64_t begin = 0;
  const auto add = [&](int64_t end) {
    if (end > begin) out.push_back({s.first_row + begin, end - begin});
    begin = end;
  };
  for (const int64_t start : s.document_starts) {
    if (start > begin && start < s.n_rows) add(start);
  }
  add(s.n_rows);
  return out;
}

std::vector<double> nsa_scores_reference(const NsaArgs& a, const NsaDocument& d, int64_t kv_head) {
  const int64_t dim = a.q.layout.dim, n_blocks = d.n_rows / a.rule.block_size;
  const Rows means = KvHead(a, d, kv_head).mean_k();
  Rows out(d.n_rows * n_blocks, 0.0);
  for (int64_t head = kv_head * a.group(); head < (kv_head + 1) * a.group(); ++head) {
    const Rows q = rows_of(a.q, d, head);
    for (int64_t i = 0; i < d.n_rows; ++i) {
      Rows weights(a.rule.complete(i));
      double top = -INFINITY, total = 0;
      for (size_t b = 0; b < weights.size(); ++b) {
        for (int64_t e = 0; e < dim; ++e) weights[b] += a.scale * q[i * dim + e] * means[b * dim + e];
        top = std::max(top, weights[b]);
      }
      for (double& w : weights) total += w = std::exp(w - top);
      for (size_t b = 0; b < weights.size(); ++b) out[i * n_blocks + b] += weights[b] / total;
    }
  }
  return out;
}

void nsa_branches_reference(const Context& ctx, const NsaArgs& a) {
  SEPLLM_CHECK(a.selection != nullptr);
  for_each_kv_head(ctx, a, [&](const NsaDocument& d, int64_t kv_head) { forward_kv_head(a, d, kv_head); });
}

void nsa_attention_reference(const Context& ctx, const NsaArgs& args) {
  const Arena::Scope scope(ctx.arena);
  NsaArgs a = args;
  if (a.selection == nullptr) {
    int64_t n_rows = 0;
    for (const NsaSequence& s : a.sequences) n_rows = std::max(n_rows, s.first_row + s.n_rows);
    a.selection = ctx.arena.allocate<int32_t>(n_rows * a.k.layout.n * a.rule.chosen());
  }
  for_each_kv_head(ctx, a, [&](const NsaDocument& d, int64_t kv_head) {
    const std::vector<double> scores = nsa_scores_reference(a, d, kv_head);
    const int64_t n_blocks = d.n_rows / a.rule.block_size;
    std::vector<int32_t> scratch;
    for (int64_t i = 0; i < d.n_rows; ++i) {
      nsa_choose(a.rule, i, scores.data() + i * n_blocks, &scratch, a.selected(d.first_row + i, kv_head));
    }
  });
  nsa_branches_reference(ctx, a);
}

void nsa_attention_backward_reference(const Context& ctx, const NsaArgs& a, const NsaGradients& g) {
  SEPLLM_CHECK(a.selection != nullptr);
  for_each_kv_head(ctx, a,
                   [&](const NsaDocument& d, int64_t kv_head) { backward_kv_head(a, g, d, kv_head); });
}

}  // namespace sepllm
