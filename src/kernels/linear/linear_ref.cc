#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/check.h"
#include "kernels/formats/blocks.h"
#include "kernels/formats/element.h"
#include "kernels/formats/panels.h"
#include "kernels/formats/quantized_rows.h"
#include "kernels/formats/scales.h"
#include "kernels/linear/linear.h"

namespace sepllm {
namespace {

// One output's weights as f32.
std::vector<float> output_weights(const Weight& w, int64_t o) {
  std::vector<float> row(static_cast<size_t>(w.n_in));
  if (is_block_type(w.type)) {
    std::vector<char> blocks(static_cast<size_t>(row_bytes(w.type, w.n_in)));
    unpack_blocks(w, o, blocks.data());
    dequantize_blocks(w.type, blocks.data(), w.n_in, row.data());
    return row;
  }
  const int64_t step_out = w.transposed ? 1 : w.row_stride;
  const int64_t step_in = w.transposed ? w.row_stride : 1;
  for (int64_t i = 0; i < w.n_in; ++i)
    row[static_cast<size_t>(i)] = load_element(w.type, w.data, o * step_out + i * step_in);
  return row;
}

}  // namespace

void linear_reference(const Matrix& x, const Weight& w, const float* bias, const Matrix& y, bool accumulate) {
  for (int64_t o = 0; o < w.n_out; ++o) {
    const std::vector<float> row = output_weights(w, o);
    for (int64_t r = 0; r < x.n_rows; ++r) {
      double sum = bias != nullptr ? bias[o] : 0.0;
      for (int64_t i = 0; i < w.n_in; ++i)
        sum += static_cast<double>(x.row(r)[i]) * row[static_cast<size_t>(i)];
      y.row(r)[o] = static_cast<float>(accumulate ? sum + y.row(r)[o] : sum);
    }
  }
}

void linear_blocks_reference(const Context& ctx, const Matrix& x, const Weight& w, const float* bias,
                             const Matrix& y, bool accumulate) {
  const PanelForm& form = format_of(w.type).panel;
  const int64_t n = kGroupElements / form.parts();
  const Arena::Scope scope(ctx.arena);
  const QuantizedRows q = quantize_rows(ctx, x, rows_form(w.type));
  std::vector<char> blocks(static_cast<size_t>(row_bytes(w.type, w.n_in)));
  for (int64_t o = 0; o < w.n_out; ++o) {
    unpack_blocks(w, o, blocks.data());
    for (int64_t r = 0; r < x.n_rows; ++r) {
      float sum = 0.0F;
      for_groups(w.type, blocks.data(), w.n_in, [&](int64_t g, const Quanta& quanta) {
        const GroupScales scales = group_scales(form, quanta);
        const int8_t* values = q.values + (r * q.n_blocks + g) * kGroupElements;
        const float scale_x = q.scales[r * q.n_blocks + g];
        int32_t of_group = 0;
        for (int64_t part = 0; part < form.parts(); ++part) {
          int32_t dot = 0;
          for (int64_t k = part * n; k < (part + 1) * n; ++k) {
            dot += (quanta.values[k] - form.zero) * values[k];
            of_group += values[k];
          }
          sum = std::fma(scales.scale[part] * static_cast<float>(dot), scale_x, sum);
        }
        if (form.has_minima()) sum = std::fma(scales.minimum, scale_x * static_cast<float>(of_group), sum);
      });
      if (bias != nullptr) sum += bias[o];
      y.row(r)[o] = accumulate ? y.row(r)[o] + sum : sum;
    }
  }
}

}  // namespace sepllm
