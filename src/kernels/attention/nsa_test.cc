// NSA, forward and backward, against its reference on random shapes: odd lengths, documents, grouped heads,
// operands in all layouts. What is chosen is checked by itself: where scores are nearly equal, rounding
// decides, so the reference of the branches takes the choice that was made.
#include "kernels/attention/nsa.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "kernels/attention/nsa_ref.h"
#include "kernels/attention/pattern_attention_test_support.h"

namespace sepllm {
namespace {

using test::chance;
using test::draw;
using test::QkvTensors;
using test::Random;
using test::Tensor;

struct NsaResults {
  Tensor out[3], log_sum_exp[3];
  std::vector<int32_t> selection;
  QkvTensors gradients;
};

class NsaCase {
 public:
  explicit NsaCase(uint32_t seed) : rng_(seed) {
    const int64_t dims[] = {1, 3, 8, 16, 20, 33, 64, draw(rng_, 1, 80)};
    const int64_t n_kv = draw(rng_, 1, 3);
    shape_ = {n_kv * (chance(rng_, 10) ? 16 : draw(rng_, 1, 5)), n_kv, dims[draw(rng_, 0, 7)]};
    rule_ = {.block_size = chance(rng_, 10) ? 1 : draw(rng_, 2, 17), .blocks = draw(rng_, 3, 8)};
    rule_.window = chance(rng_, 10) ? kUnlimited : draw(rng_, 1, 40);
    const int64_t n_sequences = draw(rng_, 1, 3);
    starts_.resize(static_cast<size_t>(n_sequences));
    for (std::vector<int64_t>& starts : starts_) {
      n_rows_ += draw(rng_, 0, 3);
      const int64_t n = chance(rng_, 10) ? 0 : draw(rng_, 1, 120);
      const double shares[] = {0.0, 0.02, 0.3};
      starts = test::random_positions(rng_, n + 2, shares[draw(rng_, 0, 2)]);
      sequences_.push_back({n_rows_, n, starts});
      for (int64_t r = 0; r < n; ++r) rows_.push_back(n_rows_++);
    }
    n_rows_ += draw(rng_, 0, 2);
    constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
    qkv_ = test::random_layout(rng_, shape_, n_rows_, kNan, 0);
    qkv_.q.own(rows_, &rng_, 4.0F);
    qkv_.k.own(rows_, &rng_);
    qkv_.v.own(rows_, &rng_);
    for (Tensor& x : d_out_) {
      x = test::random_rows(rng_, shape_.n_heads, shape_.head_dim, n_rows_, kNan, 0);
      x.own(rows_, &rng_);
    }
    layout_seed_ = rng_();
  }

  std::string text() const {
    return std::to_string(shape_.n_heads) + "/" + std::to_string(shape_.n_kv_heads) + " heads of " +
           std::to_string(shape_.head_dim) + ", blocks of " + std::to_string(rule_.block_size) + ", " +
           std::to_string(rule_.blocks) + " chosen, window " + std::to_string(rule_.window) + ", rows " +
           std::to_string(rows_.size());
  }

  NsaResults run(int threads) const {
    test::Threads t(threads);
    NsaResults r = empty();
    nsa_attention(t.context, args(r));
    nsa_attention_backward(t.context, args(r), gradients(r));
    return r;
  }

  NsaResults expected(const std::vector<int32_t>& selection) const {
    test::Threads t(1);
    NsaResults r = empty();
    r.selection = selection;
    nsa_branches_reference(t.context, args(r));
    nsa_attention_backward_reference(t.context, args(r), gradients(r));
    return r;
  }

  // Every query has the forced blocks but its own, and of the others as many as there are, up to rule.blocks,
  // with no score below that of a block that it could have chosen instead.
  void expect_best_choice(const NsaResults& r) const {
    const NsaArgs a = args(const_cast<NsaResults&>(r));
    for (const NsaSequence& s : sequences_) {
      for (const NsaDocument& d : nsa_documents(s)) {
        for (int64_t g = 0; g < shape_.n_kv_heads; ++g) {
          const std::vector<double> scores = nsa_scores_reference(a, d, g);
          const int64_t n_blocks = d.n_rows / rule_.block_size;
          for (int64_t i = 0; i < d.n_rows; ++i)
            expect_best_row(i, scores.data() + i * n_blocks, a.selected(d.first_row + i, g));
        }
      }
    }
  }

  bool close(const NsaResults& got, const NsaResults& wanted) const {
    bool ok = got.gradients.damaged() == 0;
    for (size_t b = 0; b < kNsaBranches; ++b) {
      ok = ok && close(got.out[b], wanted.out[b]) && got.out[b].storage->damaged() == 0;
      if (b != 0) ok = ok && close(got.log_sum_exp[b], wanted.log_sum_exp[b]);
    }
    return ok && close(got.gradients.q, wanted.gradients.q) && close(got.gradients.k, wanted.gradients.k) &&
           close(got.gradients.v, wanted.gradients.v);
  }

  static bool same_bits(const NsaResults& a, const NsaResults& b) {
    bool same = a.selection == b.selection && a.gradients.same_bits(b.gradients);
    for (size_t k = 0; k < kNsaBranches; ++k) same = same && a.out[k].storage->same_bits(*b.out[k].storage);
    return same;
  }

 private:
  NsaResults empty() const {
    Random rng(layout_seed_);
    NsaResults r;
    for (size_t b = 0; b < kNsaBranches; ++b) {
      r.out[b] = test::random_rows(rng, shape_.n_heads, shape_.head_dim, n_rows_, test::kGuard, 16);
      r.out[b].own(rows_);
      r.log_sum_exp[b] = test::random_rows(rng, shape_.n_heads, 1, n_rows_, test::kGuard, 16);
      r.log_sum_exp[b].own(rows_);
    }
    r.gradients = test::random_layout(rng, shape_, n_rows_, test::kGuard, 16);
    for (Tensor* x : {&r.gradients.q, &r.gradients.k, &r.gradients.v}) x->own(rows_);
    r.selection.assign(static_cast<size_t>(n_rows_ * shape_.n_kv_heads * rule_.chosen()), -7);
    return r;
  }

  NsaArgs args(NsaResults& r) const {
    NsaArgs a{.rule = rule_,
              .scale = 1.0F / std::sqrt(static_cast<float>(shape_.head_dim)),
              .q = qkv_.q.heads(),
              .k = qkv_.k.heads(),
              .v = qkv_.v.heads(),
              .selection = r.selection.data(),
              .sequences = sequences_};
    for (size_t b = 0; b < kNsaBranches; ++b) {
      a.out[b] = r.out[b].heads();
      a.log_sum_exp[b] = r.log_sum_exp[b].heads();
    }
    return a;
  }
  NsaGradients gradients(const NsaResults& r) const {
    return {.d_out = {d_out_[0].heads(), d_out_[1].heads(), d_out_[2].heads()},
            .d_q = r.gradients.q.heads(),
            .d_k = r.gradients.k.heads(),
            .d_v = r.gradients.v.heads()};
  }

  void expect_best_row(int64_t i, const double* scores, const int32_t* chosen) const {
    const int64_t own = i / rule_.block_size;
    const int32_t* end = std::find(chosen, chosen + rule_.chosen(), -1);
    EXPECT_EQ(end - chosen, std::min(rule_.blocks, own + 1) - 1);
    EXPECT_TRUE(std::is_sorted(chosen, end) && std::adjacent_find(chosen, end) == end);
    for (const int64_t b : {int64_t{0}, own - 1}) {
      if (own > 0) {
        EXPECT_NE(std::find(chosen, end, b), end);
      }
    }
    double least = INFINITY, best = -1;  // chosen and not chosen, of the blocks that are not forced
    for (int64_t b = 1; b < own - 1; ++b) {
      const bool is_chosen = std::find(chosen, end, b) != end;
      if (is_chosen) least = std::min(least, scores[b]);
      if (!is_chosen) best = std::max(best, scores[b]);
    }
    EXPECT_GE(least, best - 1e-5);
  }

  bool close(const Tensor& got, const Tensor& wanted) const {
    double worst = 0, largest = 0;
    for (const int64_t row : rows_) {
      for (int64_t h = 0; h < got.places.heads.n; ++h) {
        for (int64_t d = 0; d < got.places.heads.dim; ++d) {
          const double x = wanted.row(row, h)[d], error = std::abs(got.row(row, h)[d] - x);
          worst = std::isnan(error) ? INFINITY : std::max(worst, error);
          largest = std::max(largest, std::abs(x));
        }
      }
    }
    EXPECT_LE(worst, 2e-5 * std::max(1.0, largest));
    return worst <= 2e-5 * std::max(1.0, largest);
  }

  Random rng_;
  test::AttentionShape shape_{};
  NsaRule rule_;
  std::vector<std::vector<int64_t>> starts_;
  std::vector<NsaSequence> sequences_;
  std::vector<int64_t> rows_;
  int64_t n_rows_ = 0;
  QkvTensors qkv_;
  Tensor d_out_[3];
  uint32_t layout_seed_ = 0;
};

void check_nsa_case(uint32_t seed) {
  const NsaCase c(seed);
  SCOPED_TRACE(testing::Message() << "seed " << seed << ": " << c.text());
  const NsaResults one = c.run(1);
  c.expect_best_choice(one);
  EXPECT_TRUE(c.close(one, c.expected(one.selection)));
  if (seed % 4 != 0) return;
  EXPECT_TRUE(NsaCase::same_bits(c.run(3), one));
}

TEST(Nsa, AgreesWithTheReference) {
  for (uint32_t seed = 1; seed <= 500 && !testing::Test::HasFailure(); ++seed) check_nsa_case(seed);
}

TEST(Nsa, EveryInstructionSet) {
  test::for_each_target([] {
    for (uint32_t seed = 1001; seed <= 1015; ++seed) check_nsa_case(seed);
  });
}

// Equal scores, and scores that are no numbers.
TEST(Nsa, ChoosesTheEarlierOfEqualBlocks) {
  const NsaRule rule{.block_size = 2, .blocks = 5};
  std::vector<int32_t> scratch, out(4);
  const std::vector<double> equal(8, 0.1);
  nsa_choose(rule, 16, equal.data(), &scratch, out.data());
  EXPECT_EQ(out, (std::vector<int32_t>{0, 1, 2, 7}));
  const std::vector<double> some{0.0, 0.1, NAN, 0.3, 0.3, 0.2, NAN, 0.1};
  nsa_choose(rule, 16, some.data(), &scratch, out.data());
  EXPECT_EQ(out, (std::vector<int32_t>{0, 3, 4, 7}));
  nsa_choose(rule, 3, some.data(), &scratch, out.data());
  EXPECT_EQ(out, (std::vector<int32_t>{0, -1, -1, -1}));
}

}  // namespace
}  // namespace sepllm
