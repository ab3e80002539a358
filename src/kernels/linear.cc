#include "kernels/linear.h"

#include "base/check.h"
#include "kernels/linear_few.h"
#include "kernels/linear_many.h"

namespace sepllm {

static_assert(kMaxColumnRows < kFewRows);

void linear(const Context& ctx, const Matrix& x, const Weight& w, const float* bias, const Matrix& y,
            bool accumulate) {
  SEPLLM_CHECK(x.n_cols == w.n_in && y.n_cols == w.n_out && x.n_rows == y.n_rows);
  SEPLLM_CHECK(w.type != DType::kI8 && !(is_block_type(w.type) && w.transposed));
  if (x.n_rows == 0 || w.n_out == 0) return;
  if (is_block_type(w.type)) {
    linear_many_rows(ctx, x, w, bias, y, accumulate);
  } else if (x.n_rows <= (w.transposed ? kMaxColumnRows : kFewRows)) {
    linear_few_rows(ctx, {x, w, bias, y, accumulate});
  } else {
    linear_many_rows(ctx, x, w, bias, y, accumulate);
  }
}

void linear(const Context& ctx, const Matrix& x, std::span<const LinearPart> parts) {
  for (const LinearPart& p : parts) linear(ctx, x, *p.w, p.bias, p.y, p.accumulate);
}

}  // namespace sepllm
