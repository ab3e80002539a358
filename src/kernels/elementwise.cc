#include "kernels/elementwise.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "kernels/element.h"

namespace sepllm {

void activate(const Context&, ActivationFn f, const Matrix& x) { activate_reference(f, x); }

void activate_gated(const Context&, ActivationFn f, const Matrix& x, const Matrix& up) {
  activate_reference(f, x);
  for (int64_t r = 0; r < x.n_rows; ++r) {
    for (int64_t i = 0; i < x.n_cols; ++i) x.row(r)[i] *= up.row(r)[i];
  }
}

void add(const Context&, const Matrix& x, const Matrix& y) {
  for (int64_t r = 0; r < x.n_rows; ++r) {
    for (int64_t i = 0; i < x.n_cols; ++i) x.row(r)[i] += y.row(r)[i];
  }
}

void embed(const Context&, const Weight& table, std::span<const int64_t> ids, const Matrix& y,
           bool accumulate) {
  SEPLLM_CHECK(!table.transposed && static_cast<int64_t>(ids.size()) == y.n_rows);
  for (int64_t r = 0; r < y.n_rows; ++r) {
    SEPLLM_CHECK(ids[r] >= 0 && ids[r] < table.n_out);
    for (int64_t i = 0; i < table.n_in; ++i) {
      const float value = load_element(table.type, table.data, ids[r] * table.row_stride + i);
      y.row(r)[i] = accumulate ? y.row(r)[i] + value : value;
    }
  }
}

void store_rows(const Context&, const Matrix& x, const HeadRows& heads, DType type, void* const* rows,
                int64_t head_stride) {
  for (int64_t r = 0; r < x.n_rows; ++r) {
    for (int64_t g = 0; g < heads.n_heads; ++g) {
      const float* from = x.row(r) + heads.offset + g * heads.head_step;
      for (int64_t i = 0; i < heads.head_dim; ++i) store_element(type, rows[r], g * head_stride + i, from[i]);
    }
  }
}

void nll_rows(const Context& ctx, const Matrix& logits, std::span<const int32_t> targets, double* out) {
  ctx.pool.parallel_for(logits.n_rows, [&](int64_t r, int) {
    const float* row = logits.row(r);
    SEPLLM_CHECK(targets[r] >= 0 && targets[r] < logits.n_cols);
    const double top = *std::max_element(row, row + logits.n_cols);
    double sum = 0;
    for (int64_t i = 0; i < logits.n_cols; ++i) sum += std::exp(row[i] - top);
    out[r] = std::log(sum) + top - row[targets[r]];
  });
}

}  // namespace sepllm
