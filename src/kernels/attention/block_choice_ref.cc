// The reference of MoBA's choice. For query i, query head h and its kv head g:
//
//   score_b = q_ih . mean_bg   for every block b before the block of i
//   chosen  = the n_chosen blocks with the largest scores (of equal ones the earliest), ascending
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "attention/block_rule.h"
#include "kernels/attention/block_choice.h"

namespace sepllm {

void choose_blocks_reference(const Context& ctx, const BlockChoice& c, int32_t* chosen) {
  const int64_t n_heads = c.q.layout.n, dim = c.q.layout.dim, group = n_heads / c.n_kv_heads;
  ctx.pool.parallel_for(c.n_rows * n_heads, [&](int64_t task, int) {
    const int64_t row = task / n_heads, head = task % n_heads;
    const float* q = c.q.at(c.batch, c.first_row + row, head);
    struct Scored {
      double score;
      int32_t block;
    };
    std::vector<Scored> blocks;
    const int64_t own = block_of(c.starts, c.first_position + row);
    for (int64_t b = 0; b < own; ++b) {
      const float* mean = c.means + (b * c.n_kv_heads + head / group) * dim;
      double score = 0;
      for (int64_t d = 0; d < dim; ++d) score += static_cast<double>(q[d]) * static_cast<double>(mean[d]);
      if (score > -INFINITY) blocks.push_back({score, static_cast<int32_t>(b)});
    }
    std::stable_sort(blocks.begin(), blocks.end(),
                     [](const Scored& a, const Scored& b) { return a.score > b.score; });
    blocks.resize(std::min(blocks.size(), static_cast<size_t>(c.n_chosen)));
    int32_t* to = chosen + task * c.n_chosen;
    std::fill_n(to, c.n_chosen, -1);
    std::transform(blocks.begin(), blocks.end(), to, [](const Scored& s) { return s.block; });
    std::sort(to, to + blocks.size());
  });
}

}  // namespace sepllm
