#include "ops/ops.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "base/rng.h"

namespace sepllm {
namespace {

struct Fixture {
  ThreadPool pool{2};
  Arena arena;
  Context ctx{pool, arena};
};

std::vector<float> random(int64_t n, uint64_t seed) {
  const Rng rng(seed);
  std::vector<float> out(static_cast<size_t>(n));
  for (size_t k = 0; k < out.size(); ++k) out[k] = static_cast<float>(rng.normal(k));
  return out;
}

// Grouped layout, as Falcon 40B fuses it: per kv head two query heads, its key, its value.
const HeadLayout kQueries{.n = 4, .dim = 6, .group = 2, .stride = 6, .group_stride = 24};
const HeadLayout kKeys = HeadLayout::even(2, 6, 24, 12);

TEST(Rope, RotatesQueriesAndKeysOfAFusedRowAndLeavesValues) {
  Fixture f;
  const std::vector<double> inv_freq = {1.0, 0.1};
  const std::vector<int64_t> first = {3, 7}, second = {1, 2};
  std::vector<float> qkv = random(2 * 48, 5), second_q(2 * 48);
  const std::vector<float> before = qkv;
  std::vector<float> tables(16);
  const RopeTables a{2, tables.data(), tables.data() + 4}, b{2, tables.data() + 8, tables.data() + 12};
  rope_tables(f.ctx, inv_freq, first, tables.data(), tables.data() + 4);
  rope_tables(f.ctx, inv_freq, second, tables.data() + 8, tables.data() + 12);
  const Matrix m{qkv.data(), 2, 48, 48}, m2{second_q.data(), 2, 48, 48};
  ops::rope(f.ctx, {.q = {m.data, m.stride, kQueries},
                    .k = {m.data, m.stride, kKeys},
                    .n_rows = 2,
                    .first = a,
                    .second = b,
                    .second_q = {m2.data, m2.stride, kQueries}});
  for (int64_t r = 0; r < 2; ++r) {
    for (int64_t head = 0; head < 8; ++head) {  // per kv head: q, q, k, v
      const float* now = m.row(r) + head * 6;
      const float* old = before.data() + r * 48 + head * 6;
      const bool value = head % 4 == 3, query = head % 4 < 2;
      for (int64_t k = 0; k < 2; ++k) {
        const auto rotated = [&](int64_t place) {
          const double angle = static_cast<double>(place) * inv_freq[static_cast<size_t>(k)];
          return std::pair{old[k] * std::cos(angle) - old[k + 2] * std::sin(angle),
                           old[k + 2] * std::cos(angle) + old[k] * std::sin(angle)};
        };
        const auto [x, y] = rotated(value ? 0 : first[static_cast<size_t>(r)]);
        EXPECT_NEAR(now[k], x, 1e-6);
        EXPECT_NEAR(now[k + 2], y, 1e-6);
        if (query) {
          EXPECT_NEAR(m2.row(r)[head * 6 + k], rotated(second[static_cast<size_t>(r)]).first, 1e-6);
        }
      }
      EXPECT_EQ(now[4], old[4]);
      EXPECT_EQ(now[5], old[5]);
    }
  }
}

}  // namespace
}  // namespace sepllm
