// The vector loops under elementwise.h, one row at a time.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "base/dtype.h"
#include "kernels/rowwise/elementwise.h"

namespace sepllm {

// x[i] = f(x[i]) * up[i]; if up is null, 1.
void activate_row(Activation f, float* x, const float* up, int64_t n);

// The sum of exp(x) over parts of a row that are added one after the other.
struct LogSum {
  float top = -std::numeric_limits<float>::max();  // the maximum so far
  double total = 0.0;                              // the sum of exp(x - top)
  double value() const { return std::log(total) + top; }
};
void add_to_log_sum(const float* x, int64_t n, LogSum* sum);

// to[i] = exp(x[i] - the maximum of x), rounded to bf16; returns the maximum and the sum before rounding.
LogSum exp_row(const float* x, int64_t n, bf16* to);
// to[i] = x[i] * factor
void scaled_row(const bf16* x, int64_t n, float factor, float* to);

}  // namespace sepllm
