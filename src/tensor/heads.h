// Where attention heads lie: the only description of it, for every kernel that reads or writes heads. It can
// describe a fused QKV row, a matrix for each kind, rows of all heads, and PyTorch's [batch, heads, tokens,
// dim] with any strides.
#pragma once

#include <cstdint>

#include "base/check.h"

namespace sepllm {

// Head h of a row begins at element offset + (h / group) * group_stride + (h % group) * stride and is `dim`
// elements long. With group = 1, heads lie group_stride apart.
struct HeadLayout {
  int64_t n = 0;    // number of heads
  int64_t dim = 0;  // elements of a head
  int64_t group = 1;
  int64_t stride = 0;        // from one head of a group to the next
  int64_t group_stride = 0;  // from one group to the next
  int64_t offset = 0;        // of head 0 from the beginning of the row

  // Heads that all lie `stride` apart.
  static HeadLayout even(int64_t n, int64_t dim, int64_t stride, int64_t offset = 0) {
    return {.n = n, .dim = dim, .group_stride = stride, .offset = offset};
  }
  // Heads next to each other: [n][dim].
  static HeadLayout dense(int64_t n, int64_t dim, int64_t offset = 0) { return even(n, dim, dim, offset); }

  int64_t at(int64_t h) const { return offset + h / group * group_stride + h % group * stride; }
  // Elements between heads. Keys and values must have evenly spaced heads (checked).
  int64_t even_stride() const {
    if (group == 1 || n <= 1) return group_stride;
    SEPLLM_CHECK(group >= n || group_stride == group * stride);
    return stride;
  }
  // Whether heads [first, first + count) form one block of memory.
  bool adjacent(int64_t first, int64_t count) const {
    return at(first + count - 1) - at(first) == (count - 1) * dim;
  }
};

// A view of rows of heads, f32, in one or several batches: row r of head h of batch b is at data + b *
// batch_stride + r * row_stride + layout.at(h). Like Matrix, it does not say who may write.
struct Heads {
  float* data = nullptr;
  int64_t row_stride = 0;
  HeadLayout layout{};
  int64_t batch_stride = 0;  // 0: there is one batch

  float* at(int64_t batch, int64_t row, int64_t head) const {
    return data + batch * batch_stride + row * row_stride + layout.at(head);
  }
  float* at(int64_t row, int64_t head) const { return data + row * row_stride + layout.at(head); }
  // The same heads, in rows that begin at `row` of `batch`.
  Heads rows(int64_t row, int64_t batch = 0) const {
    return {data + batch * batch_stride + row * row_stride, row_stride, layout, batch_stride};
  }
};

}  // namespace sepllm
