// The sum of several branches of attention heads, each times a gate of its own (NSA's output).
#pragma once

#include <cstdint>
#include <span>

#include "tensor/context.h"
#include "tensor/heads.h"
#include "tensor/matrix.h"

namespace sepllm {

// out[r, h] = sum over branches b of sigmoid(gates[r, h * branches.size() + b]) * branches[b][r, h] for rows
// [0, gates.n_rows) of batch 0. out may not overlap the branches.
void gated_sum(const Context& ctx, const Matrix& gates, std::span<const Heads> branches, const Heads& out);

// Given d_out, the gradient of out: adds to d_gates, and sets d_branches (one for each branch).
void gated_sum_backward(const Context& ctx, const Matrix& gates, std::span<const Heads> branches,
                        const Heads& d_out, const Matrix& d_gates, std::span<const Heads> d_branches);

// The same in double precision, from the definition.
void gated_sum_reference(const Matrix& gates, std::span<const Heads> branches, const Heads& out);
void gated_sum_backward_reference(const Matrix& gates, std::span<const Heads> branches, const Heads& d_out,
                                  const Matrix& d_gates, std::span<const Heads> d_branches);

}  // namespace sepllm
