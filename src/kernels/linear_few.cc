#include "kernels/linear_few.h"

#include <algorithm>

#include "kernels/parallel.h"

namespace sepllm {

void linear_few_rows(const Context& ctx, const FewRows& a) {
  const int64_t work = a.x.n_rows * a.w.n_in * a.w.n_out;
  const int64_t n_blocks = 4 * ctx.pool.size();
  if (a.w.transposed) {
    const int64_t block = std::clamp<int64_t>((a.w.n_out / n_blocks + 63) / 64 * 64, 64, kColumnBlock);
    parallel_blocks(ctx, a.w.n_out, block, work,
                    [&](int64_t begin, int64_t end, int) { linear_few_columns(a, begin, end); });
    return;
  }
  const int64_t least = std::max<int64_t>(1, kSerialWork / (8 * std::max<int64_t>(1, a.w.n_in)));
  const int64_t block = std::max(least, (a.quarter() + n_blocks - 1) / n_blocks);
  parallel_blocks(ctx, a.quarter(), block, work,
                  [&](int64_t begin, int64_t end, int) { linear_few_dots(a, begin, end); });
}

}  // namespace sepllm
