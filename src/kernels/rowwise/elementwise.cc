#include "kernels/rowwise/elementwise.h"

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/check.h"
#include "kernels/formats/element.h"
#include "kernels/formats/panels.h"
#include "kernels/formats/rows.h"
#include "kernels/parallel.h"
#include "kernels/rowwise/elementwise_rows.h"

namespace sepllm {
namespace {

// Rows are cut into pieces of this many elements, so that even one long row keeps all threads busy.
constexpr int64_t kPiece = 4096;
// exp and similar functions cost as much as this many multiply-adds.
constexpr int64_t kExpWork = 16;

// Calls fn(row, first column, number of columns) for all pieces of a matrix of this shape.
template <typename Fn>
void for_pieces(const Context& ctx, int64_t n_rows, int64_t n_cols, int64_t work, const Fn& fn) {
  const int64_t per_row = (n_cols + kPiece - 1) / kPiece;
  parallel_for(ctx, n_rows * per_row, work, [&](int64_t task, int) {
    const int64_t begin = task % per_row * kPiece;
    fn(task / per_row, begin, begin + kPiece < n_cols ? kPiece : n_cols - begin);
  });
}

void check_same(const Matrix& a, const Matrix& b) {
  SEPLLM_CHECK(a.n_rows == b.n_rows && a.n_cols == b.n_cols);
}

}  // namespace

void activate(const Context& ctx, Activation f, const Matrix& x) {
  for_pieces(ctx, x.n_rows, x.n_cols, x.n_rows * x.n_cols * kExpWork,
             [&](int64_t r, int64_t c, int64_t n) { activate_row(f, x.row(r) + c, nullptr, n); });
}

void activate_gated(const Context& ctx, Activation f, const Matrix& x, const Matrix& up) {
  check_same(x, up);
  for_pieces(ctx, x.n_rows, x.n_cols, x.n_rows * x.n_cols * kExpWork,
             [&](int64_t r, int64_t c, int64_t n) { activate_row(f, x.row(r) + c, up.row(r) + c, n); });
}

void add(const Context& ctx, const Matrix& x, const Matrix& y) {
  check_same(x, y);
  for_pieces(ctx, x.n_rows, x.n_cols, x.n_rows * x.n_cols, [&](int64_t r, int64_t c, int64_t n) {
    add_row_to_f32(DType::kF32, y.row(r) + c, n, x.row(r) + c);
  });
}

void embed(const Context& ctx, const Weight& table, std::span<const int64_t> ids, const Matrix& y,
           bool accumulate) {
  SEPLLM_CHECK(!table.transposed && table.n_in == y.n_cols && static_cast<int64_t>(ids.size()) == y.n_rows);
  for (const int64_t id : ids) SEPLLM_CHECK(id >= 0 && id < table.n_out);
  for_pieces(ctx, y.n_rows, y.n_cols, y.n_rows * y.n_cols, [&](int64_t r, int64_t c, int64_t n) {
    const int64_t row = ids[static_cast<size_t>(r)];
    if (is_block_type(table.type)) {
      SEPLLM_CHECK(!accumulate);  // only token embeddings are quantised
      return panel_row_to_f32(table, row, c, n, y.row(r) + c);
    }
    const void* from = element_at(table.type, table.data, row * table.row_stride + c);
    if (accumulate) {
      add_row_to_f32(table.type, from, n, y.row(r) + c);
    } else {
      row_to_f32(table.type, from, n, y.row(r) + c);
    }
  });
}

void store_rows(const Context& ctx, const Heads& x, int64_t n_rows, const StoredRows& to) {
  const bool quantized = to.type == DType::kI8;
  SEPLLM_CHECK(quantized == (to.scales != nullptr));
  const int64_t n = x.layout.n, dim = x.layout.dim;
  parallel_blocks(ctx, n_rows, 16, n_rows * n * dim, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t h = 0; h < n; ++h) {
        const float* from = x.at(r, h);
        void* at = element_at(to.type, to.rows[r], h * to.head_stride);
        if (quantized) {
          to.scales[r][h * to.scale_head_stride] = quantize_row(from, dim, static_cast<int8_t*>(at));
        } else {
          row_from_f32(to.type, from, dim, at);
        }
      }
    }
  });
}

void nll_rows(const Context& ctx, const Matrix& logits, std::span<const int32_t> targets, double* out) {
  SEPLLM_CHECK(static_cast<int64_t>(targets.size()) == logits.n_rows);
  for (const int32_t t : targets) SEPLLM_CHECK(t >= 0 && t < logits.n_cols);
  parallel_for(ctx, logits.n_rows, logits.n_rows * logits.n_cols * kExpWork, [&](int64_t r, int) {
    const float* row = logits.row(r);
    LogSum sum;
    add_to_log_sum(row, logits.n_cols, &sum);
    out[r] = sum.value() - row[targets[static_cast<size_t>(r)]];
  });
}

}  // namespace sepllm
