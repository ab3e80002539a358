#include "model/row_order.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "model/config.h"

namespace sepllm {

RowOrder paired_rows(int64_t n_heads, int64_t head_dim) {
  std::vector<int64_t> order;
  order.reserve(static_cast<size_t>(n_heads * head_dim));
  for (int64_t h = 0; h < n_heads; ++h) {
    for (int64_t half = 0; half < 2; ++half) {
      for (int64_t i = 0; i < head_dim / 2; ++i) order.push_back(h * head_dim + 2 * i + half);
    }
  }
  return std::make_shared<const std::vector<int64_t>>(std::move(order));
}

RowOrder rows_of_parts(const QkvLayout& layout, int64_t n_heads, int64_t n_kv_heads, int64_t head_dim) {
  std::vector<int64_t> order(static_cast<size_t>((n_heads + 2 * n_kv_heads) * head_dim));
  const auto place = [&](int64_t at, int64_t in_file) {
    for (int64_t i = 0; i < head_dim; ++i)
      order[static_cast<size_t>(at * head_dim + i)] = in_file * head_dim + i;
  };
  const int64_t group = n_heads / n_kv_heads;
  for (int64_t h = 0; h < n_heads; ++h) place(h / group * layout.q_group_stride + h % group, h);
  for (int64_t g = 0; g < n_kv_heads; ++g) {
    place(layout.k_offset + g * layout.kv_stride, n_heads + g);
    place(layout.v_offset + g * layout.kv_stride, n_heads + n_kv_heads + g);
  }
  return std::make_shared<const std::vector<int64_t>>(std::move(order));
}

}  // namespace sepllm
