// The products of many rows with a weight matrix, which are limited by arithmetic.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/linear/linear.h"
#include "tensor/context.h"
#include "tensor/matrix.h"
#include "tensor/view.h"

namespace sepllm {

// `linear` (kernels/linear/linear.h) for any weight types and at least one row. The caller has checked the
// operands.
void linear_many_rows(const Context& ctx, const Matrix& x, std::span<const LinearPart> parts);

// The same for one part, in f32 through BLAS.
void linear_through_blas(const Context& ctx, const Matrix& x, const LinearPart& part);

// y = x W^T + bias for the outputs [out, out + y.n_cols) of W, with any n_cols, through BLAS on the calling
// thread. `bias` is that of all outputs, or null; `scratch` has blas_scratch(y.n_cols) floats. Block types
// are converted to f32, and for them `out` is a multiple of kPanelOutputs.
void blas_tile(const Matrix& x, const Weight& w, int64_t out, const float* bias, const Matrix& y,
               bool accumulate, float* scratch);
int64_t blas_scratch(int64_t n_out);

// Converts the inputs [first, first + n) of a panel (kernels/formats/panels.h) to floats: to[i * stride + o]
// = the weight of input first + i and output o < 16. `first` is a multiple of 64, the inputs of a pair of
// blocks; n need not be one, because the last pair may be cut off.
void panel_to_f32(DType type, const char* panel, int64_t first, int64_t n, float* to, int64_t stride);

}  // namespace sepllm
