#include "kernels/rowwise/elementwise_backward.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <span>

#include "base/check.h"
#include "kernels/parallel.h"
#include "kernels/rowwise/elementwise_rows.h"

namespace sepllm {
namespace {

constexpr int64_t kExpWork = 16;
constexpr int64_t kColumns = 64;

void check_same(const Matrix& a, const Matrix& b) {
  SEPLLM_CHECK(a.n_rows == b.n_rows && a.n_cols == b.n_cols);
}

struct ValueAndSlope {
  double value, slope;
};

ValueAndSlope at(Activation f, double x) {
  switch (f) {
    case Activation::kGelu: {
      const double share = 0.5 * std::erfc(-x / std::numbers::sqrt2);
      return {x * share, share + x * std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi)};
    }
    case Activation::kGeluTanh: {
      const double c = std::sqrt(2.0 / std::numbers::pi);
      const double t = std::tanh(c * (x + 0.044715 * x * x * x));
      return {0.5 * x * (1 + t), 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + 3 * 0.044715 * x * x)};
    }
    case Activation::kRelu:
      return {std::max(x, 0.0), x > 0 ? 1.0 : 0.0};
    case Activation::kSilu: {
      const double s = 1.0 / (1.0 + std::exp(-x));
      return {x * s, s + x * s * (1 - s)};
    }
  }
  return {};
}

}  // namespace

void activate_backward(const Context& ctx, Activation f, const Matrix& x, const Matrix& d) {
  check_same(x, d);
  parallel_for(ctx, x.n_rows, x.n_rows * x.n_cols * kExpWork, [&](int64_t r, int) {
    activate_backward_row(f, x.row(r), nullptr, d.row(r), nullptr, x.n_cols);
  });
}

void activate_gated_backward(const Context& ctx, Activation f, const Matrix& x, const Matrix& up,
                             const Matrix& d, const Matrix& d_up) {
  check_same(x, d);
  check_same(x, up);
  check_same(x, d_up);
  parallel_for(ctx, x.n_rows, x.n_rows * x.n_cols * kExpWork, [&](int64_t r, int) {
    activate_backward_row(f, x.row(r), up.row(r), d.row(r), d_up.row(r), x.n_cols);
  });
}

void embed_backward(const Context& ctx, std::span<const int64_t> ids, const Matrix& d, float* to) {
  SEPLLM_CHECK(static_cast<int64_t>(ids.size()) == d.n_rows);
  parallel_blocks(ctx, d.n_cols, kColumns, d.n_rows * d.n_cols, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = 0; r < d.n_rows; ++r) {
      float* row = to + ids[static_cast<size_t>(r)] * d.n_cols;
      for (int64_t c = begin; c < end; ++c) row[c] += d.row(r)[c];
    }
  });
}

void cross_entropy_rows(const Context& ctx, const Matrix& logits, std::span<const int32_t> targets,
                        const float* factors, double* nll) {
  SEPLLM_CHECK(static_cast<int64_t>(targets.size()) == logits.n_rows);
  for (const int32_t t : targets) SEPLLM_CHECK(t >= 0 && t < logits.n_cols);
  parallel_for(ctx, logits.n_rows, logits.n_rows * logits.n_cols * 2 * kExpWork, [&](int64_t r, int) {
    float* row = logits.row(r);
    const int32_t target = targets[static_cast<size_t>(r)];
    LogSum sum;
    add_to_log_sum(row, logits.n_cols, &sum);
    const double top = sum.value();
    nll[r] = top - row[target];
    softmax_row(row, logits.n_cols, static_cast<float>(top), factors[r]);
    row[target] -= factors[r];
  });
}

void activate_backward_reference(Activation f, const Matrix& x, const Matrix* up, const Matrix& d,
                                 const Matrix* d_up) {
  for (int64_t r = 0; r < x.n_rows; ++r) {
    for (int64_t c = 0; c < x.n_cols; ++c) {
      const auto [value, slope] = at(f, x.row(r)[c]);
      const double dy = d.row(r)[c];
      if (up != nullptr) d_up->row(r)[c] = static_cast<float>(d_up->row(r)[c] + dy * value);
      d.row(r)[c] = static_cast<float>(dy * slope * (up != nullptr ? up->row(r)[c] : 1.0F));
    }
  }
}

}  // namespace sepllm
