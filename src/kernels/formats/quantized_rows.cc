#include "kernels/formats/quantized_rows.h"

#include <cstdint>

#include "kernels/parallel.h"

namespace sepllm {

QuantizedRows quantize_rows(const Context& ctx, const Matrix& x, const RowsForm& form) {
  const int64_t n_blocks = (groups_of_row(x.n_cols) + form.blocks - 1) / form.blocks * form.blocks;
  QuantizedRows out{.n_rows = x.n_rows, .n_blocks = n_blocks, .n_parts = form.parts};
  const int64_t width = n_blocks * kGroupElements;
  out.values = ctx.arena.allocate<int8_t>(x.n_rows * width);
  out.scales = ctx.arena.allocate<float>(x.n_rows * n_blocks);
  out.starts = ctx.arena.allocate<int32_t>(x.n_rows * n_blocks * form.parts);
  if (form.sums) out.sums = ctx.arena.allocate<float>(x.n_rows * n_blocks);
  parallel_for(ctx, x.n_rows, x.n_rows * width,
               [&](int64_t r, int) { quantize_row_blocks(x.row(r), x.n_cols, n_blocks, form, out.row(r)); });
  return out;
}

}  // namespace sepllm
