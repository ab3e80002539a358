#include "kernels/quantized_rows.h"

#include <algorithm>

#include "kernels/panels.h"
#include "kernels/parallel.h"
#include "kernels/rows.h"

namespace sepllm {

QuantizedRows quantize_rows(const Context& ctx, const Matrix& x, int zero) {
  QuantizedRows out{.n_rows = x.n_rows, .n_blocks = 2 * panel_pairs(x.n_cols)};
  const int64_t width = out.n_blocks * kBlockElements;
  out.values = ctx.arena.allocate<int8_t>(x.n_rows * width);
  out.scales = ctx.arena.allocate<float>(x.n_rows * out.n_blocks);
  out.starts = ctx.arena.allocate<int32_t>(x.n_rows * out.n_blocks);
  parallel_for(ctx, x.n_rows, x.n_rows * width, [&](int64_t r, int) {
    int8_t* values = out.values + r * width;
    std::fill(values + x.n_cols, values + width, int8_t{0});
    for (int64_t b = 0; b < out.n_blocks; ++b) {
      const int64_t n = std::clamp<int64_t>(x.n_cols - b * kBlockElements, 0, kBlockElements);
      int8_t* block = values + b * kBlockElements;
      out.scales[r * out.n_blocks + b] = n > 0 ? quantize_row(x.row(r) + b * kBlockElements, n, block) : 0.0F;
      int32_t sum = 0;
      for (int64_t k = 0; k < kBlockElements; ++k) sum += block[k];
      out.starts[r * out.n_blocks + b] = -zero * sum;
    }
  });
  return out;
}

}  // namespace sepllm
