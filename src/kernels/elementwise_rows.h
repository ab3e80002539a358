// The vector loops under elementwise.h, one row at a time.
#pragma once

#include <cstdint>

#include "kernels/elementwise.h"

namespace sepllm {

// x[i] = f(x[i]) * up[i]; up may be null (1).
void activate_row(ActivationFn f, float* x, const float* up, int64_t n);
// log(sum of exp(x[i])), n >= 1.
double log_sum_exp(const float* x, int64_t n);

}  // namespace sepllm
