// Native sparse attention (NSA; docs/METHOD.md#native-sparse-attention) of whole sequences to themselves,
// forward and backward. Each query attends three times: to the means of complete blocks, to the blocks that
// its kv head chooses by the weights of those means, and to a window. Gates that add the three up are an
// operator of their own (kernels/rowwise/gated_sum.h).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "attention/nsa_rule.h"
#include "tensor/context.h"
#include "tensor/heads.h"

namespace sepllm {

// Heads of the three branches: [static_cast<size_t>(NsaBranch)].
using NsaHeads = std::array<Heads, kNsaBranches>;

// Rows [first_row, first_row + n_rows) of q, k, v and the outputs (batch 0). Each document is a text of its
// own: blocks, the window and what is chosen count from where it begins.
struct NsaSequence {
  int64_t first_row = 0;
  int64_t n_rows = 0;
  // Ascending positions, counted from first_row; what lies before the first one is a document too.
  std::span<const int64_t> document_starts{};
};

struct NsaArgs {
  NsaRule rule;
  float scale = 0.0F;  // usually 1 / sqrt(head_dim)
  // As for attention by a pattern (pattern_attention.h): the heads of k and v are evenly spaced, with the
  // same layout for both; query head h reads kv head h / group, and a group shares its choice.
  Heads q{}, k{}, v{};
  NsaHeads out{};  // each has as many heads as q
  // Without data, or heads of one element: ln(sum of exp(score)) of each branch, for the backward pass.
  NsaHeads log_sum_exp{};
  // [rows][heads of k][rule.chosen()], row r of the batch at r: the blocks that each query sees in addition
  // to its own, ascending, -1 after the last one. Set by nsa_attention (null: it is not wanted), and read by
  // the backward pass.
  int32_t* selection = nullptr;
  std::span<const NsaSequence> sequences{};

  int64_t group() const { return q.layout.n / k.layout.n; }
  int32_t* selected(int64_t row, int64_t kv_head) const {
    return selection + (row * k.layout.n + kv_head) * rule.chosen();
  }
};

// Gradients of a loss. d_out (of each branch) is given; the others are set, not added to, in the rows of the
// sequences.
struct NsaGradients {
  NsaHeads d_out{};
  Heads d_q{}, d_k{}, d_v{};
};

// Sets out, selection and log_sum_exp. Where a query sees no complete block yet, the compressed branch is 0.
// The result does not depend on the number of threads. Scratch memory: the means, and that of the attention
// of one branch.
void nsa_attention(const Context& ctx, const NsaArgs& args);

// Sets d_q, d_k, d_v. args are those of nsa_attention with its results. What is chosen has no gradient; the
// means of keys and values have.
void nsa_attention_backward(const Context& ctx, const NsaArgs& args, const NsaGradients& gradients);

// The same computed directly from the definition, in double precision.
void nsa_attention_reference(const Context& ctx, const NsaArgs& args);
void nsa_attention_backward_reference(const Context& ctx, const NsaArgs& args, const NsaGradients& gradients);

}  // namespace sepllm
