#include <cmath>

#include "kernels/norm.h"

namespace sepllm {

void rms_norm_reference(const Matrix& x, const float* weight, float eps, const Matrix& y) {
  for (int64_t r = 0; r < x.n_rows; ++r) {
    double squares = 0;
    for (int64_t i = 0; i < x.n_cols; ++i) squares += static_cast<double>(x.row(r)[i]) * x.row(r)[i];
    const double inverse = 1.0 / std::sqrt(squares / static_cast<double>(x.n_cols) + eps);
    for (int64_t i = 0; i < x.n_cols; ++i)
      y.row(r)[i] = static_cast<float>(x.row(r)[i] * inverse * weight[i]);
  }
}

void layer_norm_reference(const Matrix& x, const float* weight, const float* bias, float eps,
                          const Matrix& y) {
  const auto n = static_cast<double>(x.n_cols);
  for (int64_t r = 0; r < x.n_rows; ++r) {
    double sum = 0;
    for (int64_t i = 0; i < x.n_cols; ++i) sum += x.row(r)[i];
    const double mean = sum / n;
    double squares = 0;
    for (int64_t i = 0; i < x.n_cols; ++i) squares += (x.row(r)[i] - mean) * (x.row(r)[i] - mean);
    const double inverse = 1.0 / std::sqrt(squares / n + eps);
    for (int64_t i = 0; i < x.n_cols; ++i) {
      const double b = bias != nullptr ? bias[i] : 0.0;
      y.row(r)[i] = static_cast<float>((x.row(r)[i] - mean) * inverse * weight[i] + b);
    }
  }
}

}  // namespace sepllm
