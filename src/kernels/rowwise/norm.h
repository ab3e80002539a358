// Normalisation of rows.
#pragma once

#include <cstdint>

#include "tensor/context.h"
#include "tensor/heads.h"
#include "tensor/matrix.h"

namespace sepllm {

// y = x / sqrt(mean(x^2) + eps) * weight. x, y: [n, d], may be the same; weight: [d].
void rms_norm(const Context& ctx, const Matrix& x, const float* weight, float eps, const Matrix& y);
// y = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias; bias may be null.
void layer_norm(const Context& ctx, const Matrix& x, const float* weight, const float* bias, float eps,
                const Matrix& y);

// rms_norm of each head of rows [0, n_rows) of x (batch 0) by itself, in place; weight: [dim of a head].
void rms_norm_heads(const Context& ctx, const Heads& x, int64_t n_rows, const float* weight, float eps);

// The gradients of a norm of rows x, given the one of its result.
struct NormBackward {
  bool rms = true;
  const float* weight = nullptr;  // [d]
  float eps = 1e-5F;
  float* dweight = nullptr;  // [d], added to; null: not computed
  float* dbias = nullptr;    // [d], added to; null: not computed
};
// dx = the gradient of x (added to dx if `accumulate`); dx and dy may be the same matrix. The sums over rows
// do not depend on the number of threads.
void norm_backward(const Context& ctx, const Matrix& x, const NormBackward& norm, const Matrix& dy,
                   const Matrix& dx, bool accumulate);

// Of rms_norm_heads, in place: d, the gradient of the result, becomes that of x. before: what x was,
// [n_rows * heads, dim], row by row.
void rms_norm_heads_backward(const Context& ctx, const Matrix& before, const NormBackward& norm,
                             const Heads& d, int64_t n_rows);

// One row of it, added up in dweight and dbias (or null).
struct NormBackwardRowArgs {
  int64_t n;
  bool rms, accumulate;
  float eps;
  const float *x, *weight, *dy;
  float *dx, *dweight, *dbias;
};

void rms_norm_reference(const Matrix& x, const float* weight, float eps, const Matrix& y);
void layer_norm_reference(const Matrix& x, const float* weight, const float* bias, float eps,
                          const Matrix& y);
// norm_backward computed directly from the definition, in double precision.
void norm_backward_reference(const Matrix& x, const NormBackward& norm, const Matrix& dy, const Matrix& dx,
                             bool accumulate);

}  // namespace sepllm
