// Native sparse attention with its gates, as one step of a layer (docs/METHOD.md#native-sparse-attention).
#pragma once

#include <span>

#include "attention/nsa_rule.h"
#include "kernels/attention/nsa.h"
#include "tensor/context.h"
#include "tensor/heads.h"
#include "tensor/matrix.h"

namespace sepllm::ops {

struct NsaOperands {
  NsaRule rule;
  float scale = 0.0F;  // usually 1 / sqrt(head_dim)
  Heads q{}, k{}, v{};
  // [rows, 3 * heads of q]: what the gates are the sigmoids of; columns 3 h, 3 h + 1 and 3 h + 2 belong to
  // the compressed, the selected and the window branch of head h.
  Matrix gates{};
  Heads out{};  // as many heads as q
  std::span<const NsaSequence> sequences{};
};

// out = the sum of the three branches, each times its gate, of whole sequences over themselves. With a tape,
// every row must belong to a sequence; without one, other rows of out do not change.
void nsa_attend(const Context& ctx, const NsaOperands& operands);

}  // namespace sepllm::ops
