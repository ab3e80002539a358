#include <cmath>
#include <cstdint>
#include <iterator>
#include <span>

#include "kernels/rowwise/gated_sum.h"

namespace sepllm {
namespace {

double gate_at(const Matrix& gates, int64_t r, int64_t column) {
  return 1.0 / (1.0 + std::exp(-static_cast<double>(gates.row(r)[column])));
}

}  // namespace

void gated_sum_reference(const Matrix& gates, std::span<const Heads> branches, const Heads& out) {
  const int64_t n = std::ssize(branches);
  for (int64_t r = 0; r < gates.n_rows; ++r) {
    for (int64_t h = 0; h < out.layout.n; ++h) {
      for (int64_t d = 0; d < out.layout.dim; ++d) {
        double sum = 0;
        for (int64_t b = 0; b < n; ++b) sum += gate_at(gates, r, h * n + b) * branches[b].at(r, h)[d];
        out.at(r, h)[d] = static_cast<float>(sum);
      }
    }
  }
}

void gated_sum_backward_reference(const Matrix& gates, std::span<const Heads> branches, const Heads& d_out,
                                  const Matrix& d_gates, std::span<const Heads> d_branches) {
  const int64_t n = std::ssize(branches);
  for (int64_t r = 0; r < gates.n_rows; ++r) {
    for (int64_t h = 0; h < d_out.layout.n; ++h) {
      for (int64_t b = 0; b < n; ++b) {
        const double gate = gate_at(gates, r, h * n + b);
        double d_gate = 0;
        for (int64_t d = 0; d < d_out.layout.dim; ++d) {
          const double d_y = d_out.at(r, h)[d];
          d_gate += d_y * branches[b].at(r, h)[d];
          d_branches[b].at(r, h)[d] = static_cast<float>(gate * d_y);
        }
        d_gates.row(r)[h * n + b] += static_cast<float>(gate * (1 - gate) * d_gate);
      }
    }
  }
}

}  // namespace sepllm
