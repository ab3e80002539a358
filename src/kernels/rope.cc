#include "kernels/rope.h"

#include <cmath>
#include <cstring>
#include <numbers>

#include "kernels/element.h"

namespace sepllm {

void rope_tables(const Context&, std::span<const double> inv_freq, std::span<const int64_t> positions,
                 float* cos, float* sin) {
  const size_t n = inv_freq.size();
  for (size_t r = 0; r < positions.size(); ++r) {
    for (size_t i = 0; i < n; ++i) {
      const double angle =
          std::remainder(static_cast<double>(positions[r]) * inv_freq[i], 2.0 * std::numbers::pi);
      cos[r * n + i] = static_cast<float>(std::cos(angle));
      sin[r * n + i] = static_cast<float>(std::sin(angle));
    }
  }
}

void rope_rotate_stored(DType type, void* row, int64_t n_freq, bool interleaved, const float* cos,
                        const float* sin) {
  for (int64_t i = 0; i < n_freq; ++i) {
    const int64_t first = interleaved ? 2 * i : i;
    const int64_t second = interleaved ? 2 * i + 1 : i + n_freq;
    const float a = load_element(type, row, first);
    const float b = load_element(type, row, second);
    store_element(type, row, first, a * cos[i] - b * sin[i]);
    store_element(type, row, second, b * cos[i] + a * sin[i]);
  }
}

void rope_rotate(const Context&, const Matrix& x, const Matrix& y, const RopeHeads& heads, int64_t n_freq,
                 const float* cos, const float* sin) {
  for (int64_t r = 0; r < x.n_rows; ++r) {
    for (int64_t g = 0; g < heads.n_heads; ++g) {
      const int64_t column =
          heads.offset + (g / heads.group) * heads.group_stride + (g % heads.group) * heads.head_dim;
      float* to = y.row(r) + column;
      std::memmove(to, x.row(r) + column, static_cast<size_t>(heads.head_dim) * sizeof(float));
      rope_rotate_stored(DType::kF32, to, n_freq, heads.interleaved, cos + r * n_freq, sin + r * n_freq);
    }
  }
}

}  // namespace sepllm
