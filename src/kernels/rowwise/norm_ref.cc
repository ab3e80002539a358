#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/rowwise/norm.h"

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

void norm_backward_reference(const Matrix& x, const NormBackward& norm, const Matrix& dy, const Matrix& dx,
                             bool accumulate) {
  const auto n = static_cast<double>(x.n_cols);
  std::vector<double> dweight(static_cast<size_t>(x.n_cols)), dbias(dweight), normed(dweight);
  for (int64_t r = 0; r < x.n_rows; ++r) {
    double mean = 0, squares = 0, sum = 0, products = 0;
    for (int64_t i = 0; !norm.rms && i < x.n_cols; ++i) mean += x.row(r)[i] / n;
    for (int64_t i = 0; i < x.n_cols; ++i) squares += (x.row(r)[i] - mean) * (x.row(r)[i] - mean);
    const double inverse = 1.0 / std::sqrt(squares / n + norm.eps);
    for (int64_t i = 0; i < x.n_cols; ++i) {
      const auto k = static_cast<size_t>(i);
      normed[k] = (x.row(r)[i] - mean) * inverse;
      const double g = static_cast<double>(dy.row(r)[i]) * norm.weight[i];
      sum += norm.rms ? 0.0 : g;
      products += g * normed[k];
      dweight[k] += dy.row(r)[i] * normed[k];
      dbias[k] += dy.row(r)[i];
    }
    for (int64_t i = 0; i < x.n_cols; ++i) {
      const double g = static_cast<double>(dy.row(r)[i]) * norm.weight[i];
      const double d = inverse * (g - sum / n - normed[static_cast<size_t>(i)] * products / n);
      dx.row(r)[i] = static_cast<float>(accumulate ? dx.row(r)[i] + d : d);
    }
  }
  for (size_t k = 0; k < dweight.size(); ++k) {
    if (norm.dweight != nullptr) norm.dweight[k] += static_cast<float>(dweight[k]);
    if (norm.dbias != nullptr) norm.dbias[k] += static_cast<float>(dbias[k]);
  }
}

}  // namespace sepllm
