#include <cmath>
#include <cstdint>
#include <iterator>
#include <span>

#include "kernels/rowwise/rope.h"

namespace sepllm {

void rope_rotate_reference(const Heads& x, RopePairing pairing, std::span<const double> inv_freq,
                           std::span<const int64_t> positions) {
  const bool interleaved = pairing == RopePairing::kInterleaved;
  const auto n_freq = static_cast<int64_t>(inv_freq.size());
  for (int64_t r = 0; r < std::ssize(positions); ++r) {
    for (int64_t h = 0; h < x.layout.n; ++h) {
      float* head = x.at(r, h);
      for (int64_t i = 0; i < n_freq; ++i) {
        float& a = head[interleaved ? 2 * i : i];
        float& b = head[interleaved ? 2 * i + 1 : i + n_freq];
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
