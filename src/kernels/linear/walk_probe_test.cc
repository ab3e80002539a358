#include "kernels/linear/walk_probe.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/formats/block_matrix_test_support.h"
#include "kernels/kernel_test_support.h"
#include "kernels/linear/linear.h"

namespace sepllm {
namespace {

using test::Rows;

// The product of few rows with w, added to what y holds, by each walk: the bits must be those of the default.
void check_walks(Weight w, int64_t n_rows) {
  SCOPED_TRACE(testing::Message() << n_rows << "x" << w.n_in << "x" << w.n_out << " " << dtype_name(w.type));
  Rows x(n_rows, w.n_in, 5, 1), bias(1, w.n_out, 0, 3), start(n_rows, w.n_out, 7, 2);
  x.fill(2);
  bias.fill(3);
  start.fill(4);
  test::Threads single(1), several(3);
  for (const BlockProducts products : {BlockProducts::kInteger, BlockProducts::kExact}) {
    single.context.block_products = several.context.block_products = products;
    test::for_each_instruction_set([&] {
      w.walk = Walk{};
      Rows expected = start;
      linear(single.context, x.matrix(), w, bias.matrix().data, expected.matrix(), true);
      for (const Walk& walk : candidate_walks()) {
        w.walk = walk;
        Rows one = start, three = start;
        linear(single.context, x.matrix(), w, bias.matrix().data, one.matrix(), true);
        linear(several.context, x.matrix(), w, bias.matrix().data, three.matrix(), true);
        EXPECT_TRUE(one.same_bits(expected)) << walk.streams << " streams, ahead " << walk.ahead;
        EXPECT_TRUE(three.same_bits(expected)) << walk.streams << " streams, ahead " << walk.ahead;
        EXPECT_EQ(one.damaged(), 0);
      }
    });
  }
}

// Fewer outputs than streams, parts of a tile, and several tiles for each.
constexpr int64_t kOutputs[] = {1, 7, 33, 259};

TEST(Walks, OfStoredElementsGiveTheSameBits) {
  for (const DType type : test::kAllTypes) {
    for (const int64_t n_out : kOutputs) {
      for (const int64_t n_rows : {1, 3, 7}) {
        constexpr int64_t kIn = 75;
        const auto stored = test::random_stored(type, kIn * n_out, 1);
        check_walks({.type = type, .data = stored.data(), .n_out = n_out, .n_in = kIn, .row_stride = kIn},
                    n_rows);
      }
    }
  }
}

TEST(Walks, OfBlocksGiveTheSameBits) {
  for (const DType type : kPanelTypes) {
    for (const int64_t n_out : kOutputs) {
      for (const int64_t n_rows : {1, 3, 9})
        check_walks(test::BlockMatrix(type, n_out, 172, 1).weight, n_rows);
    }
  }
}

TEST(Walks, AreMeasuredWithTheWeights) {
  const test::BlockMatrix first(kBlockTypes[0], 64, 256, 1), second(kBlockTypes[0], 200, 64, 2);
  const Weight weights[] = {first.weight, second.weight};
  test::Threads t(2);
  const std::vector<WalkRate> rates = measure_walks(t.context, weights, 0.0);
  ASSERT_EQ(rates.size(), candidate_walks().size());
  for (size_t i = 0; i < rates.size(); ++i) {
    EXPECT_EQ(rates[i].walk, candidate_walks()[i]);
    EXPECT_GT(rates[i].bytes_per_second, 1e6);
    EXPECT_LT(rates[i].bytes_per_second, 5e12);
  }
  EXPECT_TRUE(measure_walks(t.context, {}, 0.0).empty());
}

TEST(Walks, TheFastestIsTakenWhereItIsFasterByMoreThanNoise) {
  std::vector<WalkRate> rates;
  for (const Walk& walk : candidate_walks()) rates.push_back({walk, 100});
  EXPECT_EQ(fastest_walk(rates).walk, Walk{});
  rates[3].bytes_per_second = 101;
  EXPECT_EQ(fastest_walk(rates).walk, Walk{});
  rates[5].bytes_per_second = 130;
  EXPECT_EQ(fastest_walk(rates).walk, rates[5].walk);
  EXPECT_EQ(fastest_walk(rates).bytes_per_second, 130);
}

}  // namespace
}  // namespace sepllm
