#include "kernels/linear/linear.h"

#include <cstdint>
#include <iterator>
#include <span>

#include "base/check.h"
#include "kernels/linear/linear_few.h"
#include "kernels/linear/linear_many.h"
#include "kernels/linear/linear_many_blocks.h"

namespace sepllm {

static_assert(kMaxColumnRows < kFewRows);

namespace {

bool are_few(const Context& ctx, const Weight& w, int64_t n_rows) {
  // Either way gives the same bits.
  if (is_block_type(w.type) && ctx.block_products == BlockProducts::kInteger &&
      block_rows_are_many(w.type, n_rows))
    return false;
  return rows_are_few(w, n_rows);
}

}  // namespace

void linear(const Context& ctx, const Matrix& x, std::span<const LinearPart> parts) {
  int64_t n_few = 0;
  for (const LinearPart& p : parts) {
    SEPLLM_CHECK(x.n_cols == p.w->n_in && p.y.n_cols == p.w->n_out && x.n_rows == p.y.n_rows);
    SEPLLM_CHECK(p.w->type != DType::kI8 && !(is_block_type(p.w->type) && p.w->transposed));
    n_few += are_few(ctx, *p.w, x.n_rows) ? 1 : 0;
  }
  if (x.n_rows == 0 || parts.empty()) return;
  if (n_few == std::ssize(parts)) return linear_few_rows(ctx, x, parts);
  if (n_few == 0) return linear_many_rows(ctx, x, parts);
  for (const LinearPart& p : parts) {
    if (are_few(ctx, *p.w, x.n_rows)) {
      linear_few_rows(ctx, x, {&p, 1});
    } else {
      linear_many_rows(ctx, x, {&p, 1});
    }
  }
}

void linear(const Context& ctx, const Matrix& x, const Weight& w, const float* bias, const Matrix& y,
            bool accumulate) {
  const LinearPart part{&w, bias, y, accumulate};
  linear(ctx, x, {&part, 1});
}

}  // namespace sepllm
