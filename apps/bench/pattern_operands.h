// Random operands for measuring attention by a pattern.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "attention/pattern.h"
#include "kernels/attention/nsa.h"
#include "kernels/attention/pattern_attention.h"
#include "tensor/buffer.h"
#include "tensor/context.h"

namespace sepllm::bench {

struct AttentionShape {
  int64_t tokens = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;  // must divide heads
  int64_t head_dim = 0;
  // False: one row per token with its heads next to each other, as a model's projections write them. True:
  // everything that belongs to one kv head lies together (except for the output).
  bool heads_apart = false;
};

enum class AttentionPass { kForward, kForwardBackward };

// Floating-point operations on `pairs` visible pairs (of one head): 2 products of head_dim in the forward
// pass and 5 in the backward pass (the scores are computed again), each a multiplication and an addition.
double attention_flops(const AttentionShape& shape, int64_t pairs, AttentionPass pass);

class PatternOperands {
 public:
  // Error (kOutOfRange) if the machine does not have that much memory. Without `backward` there are no
  // gradients.
  PatternOperands(const AttentionShape& shape, bool backward);

  // One pass over a sequence of all tokens; forward + backward runs both, one after the other. For a pattern
  // of NSA, its three branches (without the gates).
  void run(const Context& ctx, const Pattern& pattern, AttentionPass pass);
  // Only the backward half, with the results of the last forward + backward pass.
  void run_backward(const Context& ctx, const Pattern& pattern);

  // Bytes of the operands that a pass reads and writes.
  int64_t bytes(AttentionPass pass) const;

  // As rows of tokens: q and out are [tokens][heads][head_dim], k and v are [tokens][kv_heads][head_dim].
  const float* q() const { return q_.as<float>(); }
  const float* k() const { return k_.as<float>(); }
  const float* v() const { return v_.as<float>(); }
  const float* out() const { return out_.as<float>(); }

 private:
  Heads query_heads(const Buffer& values) const;
  Heads kv_heads(const Buffer& values) const;
  Heads out_heads(const Buffer& values, int64_t dim) const;
  PatternAttentionArgs args(const PatternSequence& sequence, bool with_statistics) const;
  NsaArgs nsa_args(const NsaSequence& sequence, const Pattern& pattern);
  void run_nsa_backward(const Context& ctx, const Pattern& pattern);

  AttentionShape shape_;
  Buffer q_, k_, v_, out_;
  Buffer log_sum_exp_, d_out_, d_q_, d_k_, d_v_;
  std::vector<int32_t> chosen_;                              // PatternSequence::chosen, or NsaArgs::selection
  std::array<Buffer, kNsaBranches> branches_, branch_sums_;  // only for NSA: NsaArgs::out and log_sum_exp
};

}  // namespace sepllm::bench
