#include "kernels/formats/quantized_rows.h"

#include <cstdint>

#include "kernels/formats/panels.h"
#include "kernels/parallel.h"

namespace sepllm {

QuantizedRows quantize_rows(const Context& ctx, const Matrix& x, int zero) {
  QuantizedRows out{.n_rows = x.n_rows, .n_blocks = 2 * panel_pairs(x.n_cols)};
  const int64_t width = out.n_blocks * kGroupElements;
  out.values = ctx.arena.allocate<int8_t>(x.n_rows * width);
  out.scales = ctx.arena.allocate<float>(x.n_rows * out.n_blocks);
  out.starts = ctx.arena.allocate<int32_t>(x.n_rows * out.n_blocks);
  parallel_for(ctx, x.n_rows, x.n_rows * width, [&](int64_t r, int) {
    const int64_t block = r * out.n_blocks;
    quantize_row_blocks(x.row(r), x.n_cols, out.n_blocks, zero, out.values + r * width, out.scales + block,
                        out.starts + block);
  });
  return out;
}

}  // namespace sepllm
