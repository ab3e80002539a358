// Spans from a source that depends on the data: every kv head and tile of queries chooses blocks of keys of
// its own (as top-k selections do), forward and backward, against masked attention pair by pair in double.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <random>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "kernels/attention/attention.h"
#include "kernels/attention/pattern_attention_ref.h"
#include "kernels/attention/pattern_attention_test_support.h"

namespace sepllm {
namespace {

using test::AttentionShape;
using test::Random;

// A sequence of n_tokens in which each kv head and tile of tile_rows queries sees its own block (or blocks)
// and a random choice of the earlier blocks, each whole and causally.
class TileSelection {
 public:
  TileSelection(int64_t n_kv_heads, int64_t n_tokens, int64_t tile_rows, int64_t block, double share,
                Random& rng)
      : n_tokens_(n_tokens),
        tile_rows_(tile_rows),
        block_(block),
        n_tiles_((n_tokens + tile_rows - 1) / tile_rows) {
    for (int64_t i = 0; i < n_kv_heads * n_tiles_; ++i) {
      const int64_t first = i % n_tiles_ * tile_rows, last = std::min(n_tokens, first + tile_rows) - 1;
      std::set<int64_t>& blocks = chosen_.emplace_back();
      for (int64_t b = 0; b <= last / block; ++b) {
        if (b >= first / block || static_cast<double>(rng()) < share * 4294967296.0) blocks.insert(b);
      }
    }
  }

  bool visible(int64_t kv_head, int64_t i, int64_t j) const {
    return j <= i && chosen_[kv_head * n_tiles_ + i / tile_rows_].contains(j / block_);
  }

  // If `merged`, neighbouring blocks are one span. k and v: rows of this sequence, from first_row on.
  AttentionSequence sequence(const Heads& k, const Heads& v, int64_t first_row, bool merged) {
    spans_.clear();
    lists_ = {0};
    for (const std::set<int64_t>& blocks : chosen_) {
      int64_t before = -2;
      for (const int64_t b : blocks) {
        const int64_t begin = b * block_, n = std::min(block_, n_tokens_ - begin);
        if (merged && b == before + 1) {
          spans_.back().n_keys += n;
        } else {
          KeySpan& s = spans_.emplace_back();
          s.k = k.at(first_row + begin, 0);
          s.v = v.at(first_row + begin, 0);
          s.slot_stride = k.row_stride;
          s.head_stride = k.layout.even_stride();
          s.n_keys = n;
          s.first_position = s.first_encoded = s.gradient_row = begin;
        }
        before = b;
      }
      lists_.push_back(std::ssize(spans_));
    }
    places_.resize(n_tokens_);
    for (int64_t i = 0; i < n_tokens_; ++i) places_[i] = i;
    return {.first_row = first_row,
            .n_rows = n_tokens_,
            .spans = spans_,
            .lists = lists_.data(),
            .tile_rows = tile_rows_,
            .encoded = places_.data(),
            .keys = {.first = first_row, .n = n_tokens_}};
  }

 private:
  int64_t n_tokens_, tile_rows_, block_, n_tiles_;
  std::vector<std::set<int64_t>> chosen_;  // by kv head and tile
  std::vector<KeySpan> spans_;
  std::vector<int64_t> lists_, places_;
};

// Rows of heads, filled at random.
struct FilledHeads {
  FilledHeads(int64_t n_rows, int64_t n_heads, int64_t dim, Random* rng = nullptr)
      : values(n_rows * n_heads * dim, 0.0F) {
    heads = {values.data(), n_heads * dim, HeadLayout::dense(n_heads, dim)};
    std::uniform_real_distribution<float> value(-1, 1);
    for (float& x : values) x = rng != nullptr ? value(*rng) : NAN;
  }
  // Rows [first, first + n) of one head in double.
  std::vector<double> of_head(int64_t first, int64_t n, int64_t head) const {
    std::vector<double> out;
    for (int64_t r = first; r < first + n; ++r)
      out.insert(out.end(), heads.at(r, head), heads.at(r, head) + heads.layout.dim);
    return out;
  }
  std::vector<float> values;
  Heads heads;
};

struct Results {
  FilledHeads out, log_sum_exp, d_q, d_k, d_v;
  Results(int64_t n, const AttentionShape& s)
      : out(n, s.n_heads, s.head_dim),
        log_sum_exp(n, s.n_heads, 1),
        d_q(n, s.n_heads, s.head_dim),
        d_k(n, s.n_kv_heads, s.head_dim),
        d_v(n, s.n_kv_heads, s.head_dim) {}
  // By name, to compare.
  std::vector<std::pair<const char*, const FilledHeads*>> all() const {
    return {{"out", &out}, {"log_sum_exp", &log_sum_exp}, {"d_q", &d_q}, {"d_k", &d_k}, {"d_v", &d_v}};
  }
};

// Several sequences with selections of their own in one call.
class Case {
 public:
  Case(const AttentionShape& shape, bool alibi, uint32_t seed)
      : shape_(shape),
        rng_(seed),
        q_(kRows, shape.n_heads, shape.head_dim, &rng_),
        k_(kRows, shape.n_kv_heads, shape.head_dim, &rng_),
        v_(kRows, shape.n_kv_heads, shape.head_dim, &rng_),
        d_out_(kRows, shape.n_heads, shape.head_dim, &rng_) {
    for (int64_t h = 0; alibi && h < shape.n_heads; ++h)
      slopes_.push_back(std::exp2(-static_cast<float>(h + 1)));
    for (int64_t row = 0; row < kRows;) {
      const int64_t n = std::min(kRows - row, test::draw(rng_, 1, 200));
      selections_.emplace_back(shape.n_kv_heads, n, test::draw(rng_, 1, 80), test::draw(rng_, 1, 40), 0.3,
                               rng_);
      first_rows_.push_back(row);
      lengths_.push_back(n);
      row += n;
    }
  }

  Results run(int threads, AttentionImpl impl, bool any_threads, bool merged) {
    test::Threads t(threads);
    t.context.attention = impl;
    std::vector<AttentionSequence> sequences;
    for (size_t i = 0; i < selections_.size(); ++i)
      sequences.push_back(selections_[i].sequence(k_.heads, v_.heads, first_rows_[i], merged));
    Results r(kRows, shape_);
    const AttentionArgs args{.n_kv_heads = shape_.n_kv_heads,
                             .scale = scale(),
                             .q = q_.heads,
                             .out = r.out.heads,
                             .log_sum_exp = r.log_sum_exp.heads,
                             .alibi_slopes = slopes_.empty() ? nullptr : slopes_.data(),
                             .sequences = sequences};
    attention(t.context, args);
    attention_backward(t.context, args,
                       {.d_out = d_out_.heads,
                        .d_q = r.d_q.heads,
                        .d_k = r.d_k.heads,
                        .d_v = r.d_v.heads,
                        .same_for_any_threads = any_threads});
    return r;
  }

  // Computed with a mask.
  Results expected() const {
    Results r(kRows, shape_);
    const int64_t group = shape_.n_heads / shape_.n_kv_heads;
    for (size_t i = 0; i < selections_.size(); ++i) {
      const int64_t first = first_rows_[i], n = lengths_[i], size = n * shape_.head_dim;
      for (int64_t g = 0; g < shape_.n_kv_heads; ++g) {
        const auto visible = [&](int64_t row, int64_t key) { return selections_[i].visible(g, row, key); };
        const std::vector<double> k = k_.of_head(first, n, g), v = v_.of_head(first, n, g);
        std::vector<double> out(size), log_sum_exp(n), d_q(size), d_k(size), d_v(size);
        for (int64_t h = g * group; h < (g + 1) * group; ++h) {
          const std::vector<double> q = q_.of_head(first, n, h), d_out = d_out_.of_head(first, n, h);
          const MaskedHead head{.visible = visible,
                                .n_rows = n,
                                .head_dim = shape_.head_dim,
                                .scale = scale(),
                                .slope = slopes_.empty() ? 0.0 : slopes_[h],
                                .q = q.data(),
                                .k = k.data(),
                                .v = v.data()};
          masked_head_forward(head, out.data(), log_sum_exp.data());
          masked_head_backward(head, d_out.data(), d_q.data(), d_k.data(), d_v.data());
          store(out, first, h, r.out);
          store(log_sum_exp, first, h, r.log_sum_exp);
          store(d_q, first, h, r.d_q);
        }
        store(d_k, first, g, r.d_k);
        store(d_v, first, g, r.d_v);
      }
    }
    return r;
  }

  // Only the last row of every sequence, as in decoding.
  void check_decoding(const Results& expected) {
    std::vector<AttentionSequence> sequences;
    std::vector<std::vector<int64_t>> lists;
    lists.reserve(selections_.size());
    for (size_t i = 0; i < selections_.size(); ++i) {
      AttentionSequence s = selections_[i].sequence(k_.heads, v_.heads, first_rows_[i], true);
      // One row is one tile: its lists are those of the last tile of each kv head.
      const int64_t last = s.n_rows - 1;
      std::vector<KeySpan>& spans = decoding_spans_.emplace_back();
      std::vector<int64_t>& list = lists.emplace_back(1, 0);
      for (int64_t g = 0; g < shape_.n_kv_heads; ++g) {
        const std::span<const KeySpan> of_head = s.spans_of(g, last);
        spans.insert(spans.end(), of_head.begin(), of_head.end());
        list.push_back(std::ssize(spans));
      }
      s.first_row += last;
      s.encoded += last;
      s.first_position = last;
      s.n_rows = 1;
      s.spans = spans;
      s.lists = list.data();
      sequences.push_back(s);
    }
    FilledHeads out(kRows, shape_.n_heads, shape_.head_dim);
    test::Threads t(2);
    attention(t.context, {.n_kv_heads = shape_.n_kv_heads,
                          .scale = scale(),
                          .q = q_.heads,
                          .out = out.heads,
                          .alibi_slopes = slopes_.empty() ? nullptr : slopes_.data(),
                          .sequences = sequences});
    for (const AttentionSequence& s : sequences) {
      for (int64_t h = 0; h < shape_.n_heads; ++h) {
        for (int64_t d = 0; d < shape_.head_dim; ++d)
          EXPECT_NEAR(out.heads.at(s.first_row, h)[d], expected.out.heads.at(s.first_row, h)[d], 5e-6);
      }
    }
  }

 private:
  static constexpr int64_t kRows = 330;

  float scale() const { return 1.0F / std::sqrt(static_cast<float>(shape_.head_dim)); }

  static void store(const std::vector<double>& from, int64_t first, int64_t head, FilledHeads& to) {
    const int64_t dim = to.heads.layout.dim;
    for (size_t e = 0; e < from.size(); ++e) {
      const auto at = static_cast<int64_t>(e);
      to.heads.at(first + at / dim, head)[at % dim] = static_cast<float>(from[e]);
    }
  }

  AttentionShape shape_;
  Random rng_;
  FilledHeads q_, k_, v_, d_out_;
  std::vector<float> slopes_;
  std::vector<TileSelection> selections_;
  std::vector<int64_t> first_rows_, lengths_;
  std::deque<std::vector<KeySpan>> decoding_spans_;
};

void expect_near(const Results& got, const Results& expected) {
  const auto all = got.all(), other = expected.all();
  for (size_t i = 0; i < all.size(); ++i) {
    double worst = 0, largest = 0;
    for (size_t e = 0; e < all[i].second->values.size(); ++e) {
      const double x = other[i].second->values[e], error = std::abs(all[i].second->values[e] - x);
      worst = std::isnan(error) ? INFINITY : std::max(worst, error);
      largest = std::max(largest, std::abs(x));
    }
    EXPECT_LE(worst, 2e-5 * std::max(1.0, largest)) << all[i].first;
  }
}

bool same_bits(const Results& a, const Results& b) {
  const auto all = a.all(), other = b.all();
  for (size_t i = 0; i < all.size(); ++i) {
    if (all[i].second->values != other[i].second->values) return false;
  }
  return true;
}

TEST(AttentionSpans, BlocksChosenForEachHeadAndTile) {
  uint32_t seed = 0;
  for (const AttentionShape& shape :
       {AttentionShape{2, 2, 16}, {4, 2, 64}, {6, 2, 20}, {3, 1, 33}, {8, 4, 8}}) {
    for (const bool alibi : {false, true}) {
      Case c(shape, alibi, ++seed);
      SCOPED_TRACE(testing::Message() << shape.n_heads << "/" << shape.n_kv_heads << " heads of "
                                      << shape.head_dim << ", seed " << seed);
      const Results expected = c.expected();
      expect_near(c.run(2, AttentionImpl::kReference, false, false), expected);
      test::for_each_target([&] {
        const Results one = c.run(1, AttentionImpl::kSimd, true, false);
        expect_near(one, expected);
        expect_near(c.run(3, AttentionImpl::kSimd, false, true), expected);
        EXPECT_TRUE(same_bits(c.run(3, AttentionImpl::kSimd, true, false), one));
        c.check_decoding(expected);
      });
    }
  }
}

}  // namespace
}  // namespace sepllm
