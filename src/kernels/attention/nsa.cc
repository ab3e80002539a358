// NSA of whole sequences: every document becomes queries over its own keys and the means of its blocks.
#include "kernels/attention/nsa.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <vector>

#include "attention/key_span.h"
#include "base/check.h"
#include "base/dtype.h"
#include "kernels/attention/attention_tiles.h"
#include "kernels/attention/block_attention.h"
#include "kernels/attention/block_choice.h"
#include "kernels/attention/nsa_forward.h"
#include "kernels/attention/nsa_ref.h"
#include "kernels/parallel.h"

namespace sepllm {
namespace {

// Rows of heads [n_rows][n][attention_tile_stride(dim)] in the arena.
Heads allocate_heads(const Context& ctx, int64_t n_rows, int64_t n, int64_t dim) {
  const int64_t stride = attention_tile_stride(dim);
  return {ctx.arena.allocate<float>(n_rows * n * stride), n * stride, HeadLayout::even(n, dim, stride)};
}

// The documents of a call, and the means of their blocks: block b of document d is row first_blocks[d] + b.
struct Documents {
  std::vector<NsaDocument> list;
  std::vector<int64_t> first_blocks;
  int64_t n_blocks = 0;
  int64_t n_rows = 0;  // up to the last row of the batch that belongs to one
  Heads mean_k, mean_v;
};

Documents documents_of(const Context& ctx, const NsaArgs& a) {
  Documents out;
  for (const NsaSequence& s : a.sequences) {
    SEPLLM_CHECK(s.n_rows >= 0 && s.n_rows < (int64_t{1} << 31));
    for (const NsaDocument& d : nsa_documents(s)) {
      out.list.push_back(d);
      out.first_blocks.push_back(out.n_blocks);
      out.n_blocks += d.n_rows / a.rule.block_size;
      out.n_rows = std::max(out.n_rows, d.first_row + d.n_rows);
    }
  }
  out.mean_k = allocate_heads(ctx, out.n_blocks, a.k.layout.n, a.k.layout.dim);
  out.mean_v = allocate_heads(ctx, out.n_blocks, a.k.layout.n, a.k.layout.dim);
  return out;
}

// Calls fn(document, block of it, row of the means, kv head) for every complete block, in parallel.
template <typename Fn>
void for_each_block(const Context& ctx, const NsaArgs& a, const Documents& documents, const Fn& fn) {
  const int64_t n_kv = a.k.layout.n, dim = a.k.layout.dim;
  parallel_for(ctx, documents.n_blocks * n_kv, 2 * documents.n_blocks * a.rule.block_size * n_kv * dim,
               [&](int64_t task, int) {
                 const int64_t row = task / n_kv;
                 const auto next =
                     std::upper_bound(documents.first_blocks.begin(), documents.first_blocks.end(), row);
                 const auto d = next - documents.first_blocks.begin() - 1;
                 fn(documents.list[d], row - documents.first_blocks[d], row, task % n_kv);
               });
}

// Row r of the span is row `row` + r of the heads; of `x` as its keys.
KeySpan rows_from(const Heads& x, int64_t row) {
  KeySpan span;
  span.k = x.at(row, 0);
  span.slot_stride = x.row_stride;
  span.head_stride = x.layout.even_stride();
  return span;
}

void set_means(const Context& ctx, const NsaArgs& a, const Documents& documents) {
  const int64_t size = a.rule.block_size, dim = a.k.layout.dim;
  for_each_block(ctx, a, documents, [&](const NsaDocument& d, int64_t block, int64_t row, int64_t kv_head) {
    const auto mean = [&](const Heads& x, const Heads& to) {
      block_mean(rows_from(x, d.first_row), DType::kF32, kv_head, block * size, size, dim,
                 to.at(row, kv_head));
    };
    mean(a.k, documents.mean_k);
    mean(a.v, documents.mean_v);
  });
}

// The plan over these documents; queries and selections, if they are not wanted, are in the arena.
NsaPlan plan_of(const Context& ctx, const NsaArgs& a, const Documents& documents) {
  const int64_t n_kv = a.k.layout.n;
  int32_t* selection = a.selection;
  if (selection == nullptr)
    selection = ctx.arena.allocate<int32_t>(documents.n_rows * n_kv * a.rule.chosen());
  auto* queries = ctx.arena.allocate<NsaQueries>(std::ssize(documents.list));
  for (size_t i = 0; i < documents.list.size(); ++i) {
    const NsaDocument& d = documents.list[i];
    KeySpan keys = rows_from(a.k, d.first_row);
    keys.v = a.v.at(d.first_row, 0);
    keys.n_keys = d.n_rows;
    queries[i] = {.first_row = d.first_row,
                  .n_rows = d.n_rows,
                  .keys = keys,
                  .mean_k = documents.mean_k.rows(documents.first_blocks[i]),
                  .mean_v = documents.mean_v.rows(documents.first_blocks[i]),
                  .selection = selection + d.first_row * n_kv * a.rule.chosen()};
  }
  return {.rule = a.rule,
          .scale = a.scale,
          .n_kv_heads = n_kv,
          .q = a.q,
          .out = a.out,
          .log_sum_exp = a.log_sum_exp,
          .queries = {queries, documents.list.size()}};
}

void check(const NsaArgs& a) {
  const HeadLayout &k = a.k.layout, &v = a.v.layout;
  SEPLLM_CHECK(a.rule.block_size >= 1 && a.rule.blocks >= kNsaForcedBlocks && a.rule.window >= 1);
  SEPLLM_CHECK(k.n >= 1 && a.q.layout.n % k.n == 0 && a.q.layout.n >= k.n);
  SEPLLM_CHECK(k.dim == a.q.layout.dim && v.dim == k.dim && v.n == k.n);
  SEPLLM_CHECK(k.even_stride() == v.even_stride() && a.k.row_stride == a.v.row_stride);
}

// Adds from's rows to to's, for the rows [first_row, first_row + n_rows) of both.
void add_rows(const Context& ctx, const Heads& from, const NsaDocument& rows, const Heads& to) {
  const int64_t n = to.layout.n, dim = to.layout.dim;
  parallel_for(ctx, rows.n_rows, rows.n_rows * n * dim, [&](int64_t r, int) {
    for (int64_t h = 0; h < n; ++h) {
      const float* x = from.at(rows.first_row + r, h);
      float* y = to.at(rows.first_row + r, h);
      for (int64_t e = 0; e < dim; ++e) y[e] += x[e];
    }
  });
}

// The gradients of one branch. Those of the compressed branch are of the means.
void branch_backward(const Context& ctx, const NsaPlan& plan, NsaBranch branch, const NsaGradients& g,
                     const Heads& d_q, const Heads& d_k, const Heads& d_v) {
  const Arena::Scope scope(ctx.arena);
  const AttentionArgs args = nsa_branch(ctx, plan, branch);
  const AttentionGradients gradients{.d_out = g.d_out[static_cast<size_t>(branch)],
                                     .d_q = d_q,
                                     .d_k = d_k,
                                     .d_v = d_v,
                                     .same_for_any_threads = true};
  if (branch == NsaBranch::kSelected) {
    block_attention_backward(ctx, args, nsa_selections(ctx, plan), gradients);
  } else {
    attention_backward(ctx, args, gradients);
  }
}

}  // namespace

void nsa_attention(const Context& ctx, const NsaArgs& args) {
  check(args);
  if (ctx.attention == AttentionImpl::kReference) return nsa_attention_reference(ctx, args);
  const Arena::Scope scope(ctx.arena);
  const Documents documents = documents_of(ctx, args);
  set_means(ctx, args, documents);
  nsa_forward(ctx, plan_of(ctx, args, documents), /*decoding=*/false);
}

void nsa_attention_backward(const Context& ctx, const NsaArgs& a, const NsaGradients& g) {
  check(a);
  SEPLLM_CHECK(a.selection != nullptr);
  if (ctx.attention == AttentionImpl::kReference) return nsa_attention_backward_reference(ctx, a, g);
  const Arena::Scope scope(ctx.arena);
  const Documents documents = documents_of(ctx, a);
  set_means(ctx, a, documents);
  const NsaPlan plan = plan_of(ctx, a, documents);
  const int64_t n_kv = a.k.layout.n, dim = a.k.layout.dim;
  // The window's gradients are written in place, the others added to them.
  branch_backward(ctx, plan, NsaBranch::kWindow, g, g.d_q, g.d_k, g.d_v);
  const Heads d_q = allocate_heads(ctx, documents.n_rows, a.q.layout.n, dim);
  {
    const Arena::Scope inner(ctx.arena);
    const Heads d_k = allocate_heads(ctx, documents.n_rows, n_kv, dim);
    const Heads d_v = allocate_heads(ctx, documents.n_rows, n_kv, dim);
    branch_backward(ctx, plan, NsaBranch::kSelected, g, d_q, d_k, d_v);
    for (const NsaDocument& d : documents.list) {
      add_rows(ctx, d_q, d, g.d_q);
      add_rows(ctx, d_k, d, g.d_k);
      add_rows(ctx, d_v, d, g.d_v);
    }
  }
  if (documents.n_blocks == 0) return;
  const Heads d_mean_k = allocate_heads(ctx, documents.n_blocks, n_kv, dim);
  const Heads d_mean_v = allocate_heads(ctx, documents.n_blocks, n_kv, dim);
  branch_backward(ctx, plan, NsaBranch::kCompressed, g, d_q, d_mean_k, d_mean_v);
  for (const NsaDocument& d : documents.list) {
    const int64_t hidden = std::min(d.n_rows, a.rule.block_size - 1);  // rows that see no block
    add_rows(ctx, d_q, {d.first_row + hidden, d.n_rows - hidden}, g.d_q);
  }
  const int64_t size = a.rule.block_size;
  const auto factor = static_cast<float>(1.0 / static_cast<double>(size));
  for_each_block(ctx, a, documents, [&](const NsaDocument& d, int64_t block, int64_t row, int64_t kv_head) {
    const float* k = d_mean_k.at(row, kv_head);
    const float* v = d_mean_v.at(row, kv_head);
    for (int64_t j = block * size; j < (block + 1) * size; ++j) {
      float* to_k = g.d_k.at(d.first_row + j, kv_head);
      float* to_v = g.d_v.at(d.first_row + j, kv_head);
      for (int64_t e = 0; e < dim; ++e) to_k[e] += k[e] * factor;
      for (int64_t e = 0; e < dim; ++e) to_v[e] += v[e] * factor;
    }
  });
}

}  // namespace sepllm
