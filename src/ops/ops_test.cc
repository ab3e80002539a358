#include "ops/ops.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "ops/nsa.h"

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

// The gradient of sum(c * f(x)) in x and in the parameters, by the tape and by finite differences. `f`
// changes its argument [n_rows, n_cols] in place.
class Gradients {
 public:
  Gradients(int64_t n_rows, int64_t n_cols)
      : n_rows_(n_rows), n_cols_(n_cols), x_(random(n_rows * n_cols, 1)), c_(random(n_rows * n_cols, 2)) {}

  template <typename Fn>
  void expect_right(const Fn& f, std::vector<float>* parameter = nullptr) {
    std::vector<float> d_parameter(parameter != nullptr ? parameter->size() : 0), dx(x_.size());
    by_tape(f, parameter, &d_parameter, &dx);
    const auto check = [&](std::vector<float>& values, const std::vector<float>& got) {
      for (size_t k = 0; k < values.size(); k += 3) {
        constexpr float kStep = 1e-2F;
        const float old = values[k];
        values[k] = old + kStep;
        const double above = loss(f);
        values[k] = old - kStep;
        const double below = loss(f);
        values[k] = old;
        EXPECT_NEAR(got[k], (above - below) / (2 * kStep), 3e-3) << k;
      }
    };
    check(x_, dx);
    if (parameter != nullptr) check(*parameter, d_parameter);
  }

 private:
  template <typename Fn>
  double loss(const Fn& f) {
    const Arena::Scope scope(f_.arena);
    std::vector<float> y = x_;
    f(f_.ctx, Matrix{y.data(), n_rows_, n_cols_, n_cols_});
    double sum = 0;
    for (size_t k = 0; k < y.size(); ++k) sum += static_cast<double>(c_[k]) * y[k];
    return sum;
  }

  template <typename Fn>
  void by_tape(const Fn& f, std::vector<float>* parameter, std::vector<float>* d_parameter,
               std::vector<float>* dx) {
    const Arena::Scope scope(f_.arena);
    Tape tape(f_.arena, f_.pool);
    const Context ctx{.pool = f_.pool, .arena = f_.arena, .tape = &tape};
    if (parameter != nullptr) tape.set_parameter(parameter->data(), d_parameter->data());
    const Matrix x = tape.activation(n_rows_, n_cols_);
    std::copy(x_.begin(), x_.end(), x.data);
    const Tape::Slot slot = tape.slot(x);
    tape.record([slot, to = dx->data()](const Context& c) {
      const Matrix d = c.tape->gradient(slot);
      std::copy_n(d.data, d.n_rows * d.n_cols, to);
    });
    f(ctx, x);
    tape.record([slot, from = c_.data()](const Context& c) {
      const Matrix d = c.tape->gradient(slot);
      std::copy_n(from, d.n_rows * d.n_cols, d.data);
    });
    tape.backward(ctx);
  }

  int64_t n_rows_, n_cols_;
  std::vector<float> x_, c_;
  Fixture f_;
};

// As Gemma stores its weights, without the 1 that is added.
TEST(NormHeads, NormsEveryHeadOfItsOwnAndLeavesOthers) {
  std::vector<float> weight = random(6, 7);
  const ops::NormOperands operands{.weight = weight.data(), .eps = 1e-3F, .offset = 1};
  const std::vector<float> before = random(3 * 48, 4);
  std::vector<float> x = before;
  Fixture f;
  ops::norm_heads(f.ctx, {x.data(), 48, kQueries}, 3, operands);
  for (int64_t r = 0; r < 3; ++r) {
    for (int64_t head = 0; head < 8; ++head) {
      const float *now = x.data() + r * 48 + head * 6, *old = before.data() + r * 48 + head * 6;
      double squares = 0;
      for (int64_t k = 0; k < 6; ++k) squares += static_cast<double>(old[k]) * old[k];
      const bool query = head % 4 < 2;
      for (int64_t k = 0; k < 6; ++k) {
        const double factor =
            (1.0 + weight[static_cast<size_t>(k)]) / std::sqrt(squares / 6 + static_cast<double>(1e-3F));
        EXPECT_NEAR(now[k], query ? old[k] * factor : old[k], 1e-6);
      }
    }
  }
  Gradients(3, 48).expect_right(
      [&](const Context& ctx, const Matrix& m) {
        ops::norm_heads(ctx, {m.data, m.stride, kQueries}, m.n_rows, operands);
      },
      &weight);
}

TEST(Norm, GradientsWithAnOffset) {
  std::vector<float> weight = random(20, 8);
  Gradients(4, 20).expect_right(
      [&](const Context& ctx, const Matrix& m) {
        ops::norm(ctx, m, {.weight = weight.data(), .eps = 1e-3F, .offset = 1}, m);
      },
      &weight);
}

// Columns: 4 query heads, 2 key heads, 2 value heads (of 3), 12 gates, and where the result is added. All
// blocks are chosen, because a choice that changes has no slope.
TEST(Nsa, Gradients) {
  const int64_t starts[] = {0, 9};
  const NsaSequence sequences[] = {{.first_row = 0, .n_rows = 16, .document_starts = starts},
                                   {.first_row = 16, .n_rows = 11}};
  Gradients(27, 48).expect_right([&](const Context& ctx, const Matrix& m) {
    const auto allocate = [&](int64_t n_cols) {
      if (ctx.tape != nullptr) return ctx.tape->activation(27, n_cols);
      return Matrix{ctx.arena.allocate<float>(27 * n_cols), 27, n_cols, n_cols};
    };
    const Matrix in = allocate(36), out = allocate(12);
    ops::copy(ctx, m.columns(0, 36), in);
    const auto heads = [](const Matrix& x, int64_t n, int64_t first) {
      return Heads{x.data + first, x.stride, HeadLayout::dense(n, 3)};
    };
    ops::nsa_attend(ctx, {.rule = {.block_size = 2, .blocks = 6, .window = 3},
                          .scale = 0.7F,
                          .q = heads(in, 4, 0),
                          .k = heads(in, 2, 12),
                          .v = heads(in, 2, 18),
                          .gates = in.columns(24, 12),
                          .out = heads(out, 4, 0),
                          .sequences = sequences});
    ops::add(ctx, m.columns(36, 12), out);
  });
}

TEST(ScaleAndAdd, Gradients) {
  Gradients(4, 20).expect_right([](const Context& ctx, const Matrix& m) {
    ops::scale(ctx, m, 2.5F);
    ops::add(ctx, m.columns(0, 5), m.columns(10, 5));
  });
}

}  // namespace
}  // namespace sepllm
