#include <cmath>

#include "base/check.h"
#include "kernels/rowwise/rope.h"

namespace sepllm {

void rope_rotate_reference(const Matrix& x, const RopeHeads& heads, std::span<const double> inv_freq,
                           std::span<const int64_t> positions) {
  SEPLLM_CHECK(static_cast<int64_t>(positions.size()) == x.n_rows);
  const auto n_freq = static_cast<int64_t>(inv_freq.size());
  for (int64_t r = 0; r < x.n_rows; ++r) {
    for (int64_t g = 0; g < heads.n_heads; ++g) {
      float* head = x.row(r) + heads.offset + (g / heads.group) * heads.group_stride +
                    (g % heads.group) * heads.head_dim;
      for (int64_t i = 0; i < n_freq; ++i) {
        float& a = head[heads.interleaved ? 2 * i : i];
        float& b = head[heads.interleaved ? 2 * i + 1 : i + n_freq];
        const double angle = static_cast<double>(positions[r]) * inv_freq[i];
        const double c = std::cos(angle);
        const double s = std::sin(angle);
        const double first = a * c - b * s;
        const double second = b * c + a * s;
        a = static_cast<float>(first);
        b = static_cast<float>(second);
      }
    }
  }
}

}  // namespace sepllm
