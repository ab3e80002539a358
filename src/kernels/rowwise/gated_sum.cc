#include "kernels/rowwise/gated_sum.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <span>

#include "base/check.h"
#include "kernels/parallel.h"

namespace sepllm {
namespace {

float sigmoid(float x) { return 1.0F / (1.0F + std::exp(-x)); }

void check(const Matrix& gates, std::span<const Heads> branches, const Heads& out) {
  SEPLLM_CHECK(gates.n_cols == std::ssize(branches) * out.layout.n);
  for (const Heads& x : branches) SEPLLM_CHECK(x.layout.n == out.layout.n && x.layout.dim == out.layout.dim);
}

// Elements that are read and written.
int64_t work_of(const Matrix& gates, const Heads& out) {
  return gates.n_rows * gates.n_cols * out.layout.dim;
}

}  // namespace

void gated_sum(const Context& ctx, const Matrix& gates, std::span<const Heads> branches, const Heads& out) {
  check(gates, branches, out);
  const int64_t n = std::ssize(branches), dim = out.layout.dim;
  parallel_for(ctx, gates.n_rows, work_of(gates, out), [&](int64_t r, int) {
    for (int64_t h = 0; h < out.layout.n; ++h) {
      float* y = out.at(r, h);
      std::fill_n(y, dim, 0.0F);
      for (int64_t b = 0; b < n; ++b) {
        const float gate = sigmoid(gates.row(r)[h * n + b]);
        const float* x = branches[b].at(r, h);
        for (int64_t d = 0; d < dim; ++d) y[d] += gate * x[d];
      }
    }
  });
}

void gated_sum_backward(const Context& ctx, const Matrix& gates, std::span<const Heads> branches,
                        const Heads& d_out, const Matrix& d_gates, std::span<const Heads> d_branches) {
  check(gates, branches, d_out);
  check(d_gates, d_branches, d_out);
  SEPLLM_CHECK(gates.n_rows == d_gates.n_rows);
  const int64_t n = std::ssize(branches), dim = d_out.layout.dim;
  parallel_for(ctx, gates.n_rows, 2 * work_of(gates, d_out), [&](int64_t r, int) {
    for (int64_t h = 0; h < d_out.layout.n; ++h) {
      const float* d_y = d_out.at(r, h);
      for (int64_t b = 0; b < n; ++b) {
        const float gate = sigmoid(gates.row(r)[h * n + b]);
        const float* x = branches[b].at(r, h);
        float* d_x = d_branches[b].at(r, h);
        float product = 0;
        for (int64_t d = 0; d < dim; ++d) {
          product += d_y[d] * x[d];
          d_x[d] = gate * d_y[d];
        }
        d_gates.row(r)[h * n + b] += gate * (1.0F - gate) * product;
      }
    }
  });
}

}  // namespace sepllm
