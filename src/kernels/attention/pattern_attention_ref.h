// The definition of masked attention and its gradients for one query head, in double precision from end to
// end. The reference of attention by a pattern uses it, and tests differentiate it numerically.
#pragma once

#include <cstdint>

#include "base/function_ref.h"

namespace sepllm {

// Rows are dense: [n_rows][head_dim]. Query i sees key j iff visible(i, j), which is called only for j <= i.
struct MaskedHead {
  FunctionRef<bool(int64_t i, int64_t j)> visible;
  int64_t n_rows = 0;
  int64_t head_dim = 0;
  double scale = 0.0;
  double slope = 0.0;  // ALiBi's slope
  const double* q = nullptr;
  const double* k = nullptr;
  const double* v = nullptr;
};

// out: [n_rows][head_dim]; log_sum_exp: [n_rows].
void masked_head_forward(const MaskedHead& head, double* out, double* log_sum_exp);

// Sets d_q, and adds to d_k and d_v because query heads share them; all are [n_rows][head_dim].
void masked_head_backward(const MaskedHead& head, const double* d_out, double* d_q, double* d_k, double* d_v);

}  // namespace sepllm
