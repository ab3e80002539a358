#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

#include "kernels/rowwise/elementwise.h"

namespace sepllm {
namespace {

double activation(Activation f, double x) {
  switch (f) {
    case Activation::kGelu:
      return 0.5 * x * std::erfc(-x / std::numbers::sqrt2);
    case Activation::kGeluTanh: {
      const double inner = std::sqrt(2.0 / std::numbers::pi) * (x + 0.044715 * x * x * x);
      return x / (1.0 + std::exp(-2.0 * inner));  // 0.5 x (1 + tanh(inner)) without cancellation
    }
    case Activation::kRelu:
      return std::max(x, 0.0);
    case Activation::kSilu:
      return x / (1.0 + std::exp(-x));
  }
  return x;
}

}  // namespace

void activate_reference(Activation f, const Matrix& x) {
  for (int64_t r = 0; r < x.n_rows; ++r) {
    for (int64_t i = 0; i < x.n_cols; ++i) x.row(r)[i] = static_cast<float>(activation(f, x.row(r)[i]));
  }
}

}  // namespace sepllm
