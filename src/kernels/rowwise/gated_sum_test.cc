#include "kernels/rowwise/gated_sum.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>

#include "kernels/kernel_test_support.h"

namespace sepllm {
namespace {

// Rows of dense heads in a matrix with gaps.
Heads heads_of(const Matrix& m, int64_t n, int64_t dim) {
  return {m.data, m.stride, HeadLayout::dense(n, dim)};
}

TEST(GatedSum, AgreesWithTheReference) {
  for (const int64_t dim : {1, 5, 16, 67}) {
    constexpr int64_t kRows = 7, kHeads = 3;
    const int64_t n = kHeads * dim;
    test::Threads t(2);
    test::Rows gates(kRows, 2 * kHeads, 3, 1), first(kRows, n, 2), second(kRows, n, 0, 5), d_out(kRows, n, 4);
    gates.fill(1, -6, 6), first.fill(2), second.fill(3), d_out.fill(4);
    const Heads branches[] = {heads_of(first.matrix(), kHeads, dim), heads_of(second.matrix(), kHeads, dim)};

    test::Rows out(kRows, n, 1), expected(kRows, n, 1);
    gated_sum(t.context, gates.matrix(), branches, heads_of(out.matrix(), kHeads, dim));
    gated_sum_reference(gates.matrix(), branches, heads_of(expected.matrix(), kHeads, dim));
    EXPECT_LE(test::max_difference(out.matrix(), expected.matrix()), 1e-6);
    EXPECT_EQ(out.damaged(), 0);

    // Gradients of gates are added to what is there.
    struct Gradients {
      test::Rows gates{kRows, 2 * kHeads, 2}, first, second;
    };
    Gradients got{.first{kRows, n}, .second{kRows, n, 3}}, wanted = got;
    for (Gradients* g : {&got, &wanted}) g->gates.fill(5);
    const auto of = [&](const Gradients& g) {
      return std::array{heads_of(g.first.matrix(), kHeads, dim), heads_of(g.second.matrix(), kHeads, dim)};
    };
    const Heads d = heads_of(d_out.matrix(), kHeads, dim);
    gated_sum_backward(t.context, gates.matrix(), branches, d, got.gates.matrix(), of(got));
    gated_sum_backward_reference(gates.matrix(), branches, d, wanted.gates.matrix(), of(wanted));
    EXPECT_LE(test::max_difference(got.gates.matrix(), wanted.gates.matrix()), 1e-5);
    EXPECT_LE(test::max_difference(got.first.matrix(), wanted.first.matrix()), 1e-6);
    EXPECT_LE(test::max_difference(got.second.matrix(), wanted.second.matrix()), 1e-6);
    EXPECT_EQ(got.gates.damaged() + got.first.damaged() + got.second.damaged(), 0);
  }
}

}  // namespace
}  // namespace sepllm
