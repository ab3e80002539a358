// The definition of attention by a pattern and of its gradients, for one query head, in double precision from
// end to end: what the reference is made of, and what tests differentiate numerically.
#pragma once

#include <cstdint>

#include "attention/pattern.h"

namespace sepllm {

// Rows are dense: [n_rows][head_dim].
struct PatternHead {
  const Pattern* pattern = nullptr;
  int64_t n_rows = 0;
  int64_t head_dim = 0;
  double scale = 0.0;
  double slope = 0.0;  // of ALiBi
  const double* q = nullptr;
  const double* k = nullptr;
  const double* v = nullptr;
};

// out: [n_rows][head_dim]; log_sum_exp: [n_rows].
void pattern_head_forward(const PatternHead& head, double* out, double* log_sum_exp);

// Sets d_q and adds to d_k and d_v (query heads share them); all [n_rows][head_dim].
void pattern_head_backward(const PatternHead& head, const double* d_out, double* d_q, double* d_k,
                           double* d_v);

}  // namespace sepllm
