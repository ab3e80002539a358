#include "kernels/linear.h"

#include "kernels/element.h"

namespace sepllm {

void linear(const Context& ctx, const Matrix& x, const Weight& w, const float* bias, const Matrix& y,
            bool accumulate) {
  const int64_t step_out = w.transposed ? 1 : w.row_stride;
  const int64_t step_in = w.transposed ? w.row_stride : 1;
  ctx.pool.parallel_for(w.n_out, [&](int64_t o, int) {
    for (int64_t r = 0; r < x.n_rows; ++r) {
      double sum = bias != nullptr ? bias[o] : 0.0;
      for (int64_t i = 0; i < w.n_in; ++i) {
        sum += static_cast<double>(x.row(r)[i]) * load_element(w.type, w.data, o * step_out + i * step_in);
      }
      y.row(r)[o] = static_cast<float>(accumulate ? sum + y.row(r)[o] : sum);
    }
  });
}

}  // namespace sepllm
