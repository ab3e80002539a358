#include "model/kv_moves.h"

#include <gtest/gtest.h>

#include <cmath>

namespace sepllm {
namespace {

TEST(KvMoves, CopiesRowsAndRotatesKeysByTheDistance) {
  ThreadPool pool(2);
  Arena arena;
  const Context ctx{pool, arena};
  ModelConfig config;
  config.position = PositionType::kRope;
  config.rope_inv_freq = {1.0, 0.25};
  KvCache cache({2, 2, 4, DType::kF32}, Policy{}, TokenSet(4));
  const std::vector<int32_t> tokens(4, 1);
  cache.begin_chunk(tokens);
  for (int64_t layer = 0; layer < 2; ++layer) {
    for (int64_t head = 0; head < 2; ++head) {
      for (int64_t slot = 0; slot < 4; ++slot) {
        auto* k = static_cast<float*>(cache.key_row(layer, head, {true, slot}));
        auto* v = static_cast<float*>(cache.value_row(layer, head, {true, slot}));
        for (int64_t d = 0; d < 4; ++d)
          k[d] = v[d] = static_cast<float>(1 + d + 10 * slot + 100 * head + 1000 * layer);
      }
    }
  }
  const std::vector<Move> moves = {{{true, 2}, {true, 0}, -2}, {{true, 3}, {true, 3}, 5}};
  carry_out_moves(ctx, config, cache, moves);
  for (int64_t layer = 0; layer < 2; ++layer) {
    for (int64_t head = 0; head < 2; ++head) {
      const auto check = [&](int64_t slot, int64_t source, double by) {
        const auto* k = static_cast<const float*>(cache.key_row(layer, head, {true, slot}));
        const auto* v = static_cast<const float*>(cache.value_row(layer, head, {true, slot}));
        const double base = static_cast<double>(1 + 10 * source + 100 * head + 1000 * layer);
        EXPECT_NEAR(k[0], base * std::cos(by) - (base + 2) * std::sin(by), 2e-3);
        EXPECT_NEAR(k[3], (base + 3) * std::cos(by * 0.25) + (base + 1) * std::sin(by * 0.25), 2e-3);
        EXPECT_EQ(v[0], static_cast<float>(base));
      };
      check(0, 2, -2.0);
      check(1, 1, 0.0);
      check(3, 3, 5.0);
    }
  }
}

// int8 rows go with their scales, and a rotated key gets a new one.
TEST(KvMoves, Int8RowsKeepTheirScales) {
  ThreadPool pool(2);
  Arena arena;
  const Context ctx{pool, arena};
  ModelConfig config;
  config.position = PositionType::kRope;
  config.rope_inv_freq = {1.0, 0.25};
  KvCache cache({2, 2, 5, DType::kI8}, Policy{}, TokenSet(4));
  const std::vector<int32_t> tokens(4, 1);
  cache.begin_chunk(tokens);
  const auto stored = [](int64_t layer, int64_t head, int64_t slot, int64_t d) {
    return static_cast<int8_t>(127 - 20 * d - 9 * slot - 30 * head - 4 * layer);
  };
  const auto scale_of = [](int64_t slot) { return 0.5F + static_cast<float>(slot); };
  for (int64_t layer = 0; layer < 2; ++layer) {
    for (int64_t head = 0; head < 2; ++head) {
      for (int64_t slot = 0; slot < 4; ++slot) {
        const SlotRef at{true, slot};
        *cache.key_scale(layer, head, at) = scale_of(slot);
        *cache.value_scale(layer, head, at) = 2 * scale_of(slot);
        for (int64_t d = 0; d < 5; ++d) {
          static_cast<int8_t*>(cache.key_row(layer, head, at))[d] = stored(layer, head, slot, d);
          static_cast<int8_t*>(cache.value_row(layer, head, at))[d] = stored(layer, head, slot, d);
        }
      }
    }
  }
  const std::vector<Move> moves = {{{true, 2}, {true, 0}, -2}, {{true, 3}, {true, 1}, 0}};
  carry_out_moves(ctx, config, cache, moves);
  for (int64_t layer = 0; layer < 2; ++layer) {
    for (int64_t head = 0; head < 2; ++head) {
      const auto key = [&](int64_t slot, int64_t d) {
        const SlotRef at{true, slot};
        return *cache.key_scale(layer, head, at) *
               static_cast<float>(static_cast<const int8_t*>(cache.key_row(layer, head, at))[d]);
      };
      const auto was = [&](int64_t slot, int64_t d) {
        return static_cast<double>(scale_of(slot)) * stored(layer, head, slot, d);
      };
      EXPECT_EQ(*cache.value_scale(layer, head, {true, 0}), 2 * scale_of(2));
      EXPECT_EQ(*cache.value_scale(layer, head, {true, 1}), 2 * scale_of(3));
      const double step = 0.51 * *cache.key_scale(layer, head, {true, 0});
      EXPECT_NEAR(key(0, 0), was(2, 0) * std::cos(-2.0) - was(2, 2) * std::sin(-2.0), step);
      EXPECT_NEAR(key(0, 3), was(2, 3) * std::cos(-0.5) + was(2, 1) * std::sin(-0.5), step);
      EXPECT_NEAR(key(0, 4), was(2, 4), step);  // not rotated
      for (int64_t d = 0; d < 5; ++d) EXPECT_EQ(key(1, d), static_cast<float>(was(3, d)));
    }
  }
}

}  // namespace
}  // namespace sepllm
