// Normalisation of rows.
#pragma once

#include "kernels/context.h"
#include "tensor/matrix.h"

namespace sepllm {

// y = x / sqrt(mean(x^2) + eps) * weight. x, y: [n, d], may be the same; weight: [d].
void rms_norm(const Context& ctx, const Matrix& x, const float* weight, float eps, const Matrix& y);
// y = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias; bias may be null.
void layer_norm(const Context& ctx, const Matrix& x, const float* weight, const float* bias, float eps,
                const Matrix& y);

void rms_norm_reference(const Matrix& x, const float* weight, float eps, const Matrix& y);
void layer_norm_reference(const Matrix& x, const float* weight, const float* bias, float eps,
                          const Matrix& y);

}  // namespace sepllm
