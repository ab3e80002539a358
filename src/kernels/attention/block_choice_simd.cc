// MoBA's choice of blocks. Vectors run along the queries: the products of a group of queries with all means,
// then the largest of them by insertion, and then the blocks whose product is at least the smallest of those.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention/block_choice_simd.cc"
#include <hwy/foreach_target.h>  // must come first

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "attention/block_rule.h"
#include "kernels/attention/attention_block-inl.h"
#include "kernels/attention/block_choice.h"

HWY_BEFORE_NAMESPACE();
namespace sepllm {
namespace HWY_NAMESPACE {
namespace {

// The arrays of a group of queries.
struct ChoiceState {
  float* query;   // [head_dim][kGroupLanes]
  float* scores;  // [n_blocks][kGroupLanes]; minus infinity where a query may not choose the block
  float* top;     // [n_chosen][kGroupLanes], descending
  int32_t* own;   // [kGroupLanes] the query's own block
  // [kGroupLanes] how many blocks with exactly the smallest of the largest products belong to them, and how
  // many have been written
  int32_t* ties;
  int32_t* n_written;
};

void layout_choice(int64_t head_dim, int64_t n_blocks, int64_t n_chosen, Carver& carver, ChoiceState& s) {
  s.query = carver.floats(head_dim * kGroupLanes);
  s.scores = carver.floats(n_blocks * kGroupLanes);
  s.top = carver.floats(n_chosen * kGroupLanes);
  s.own = carver.ints(kGroupLanes);
  s.ties = carver.ints(kGroupLanes);
  s.n_written = carver.ints(kGroupLanes);
}

// Takes the scores of blocks [0, n) of one vector of queries into `top`, and masks those that do not count.
HWY_INLINE void insert_scores(const ChoiceState& s, int64_t n, int64_t n_chosen, int v) {
  const DF d;
  const VF none = hn::Set(d, -INFINITY);
  const auto own = hn::Load(DI(), s.own + v * kLanes);
  float* top = s.top + v * kLanes;
  for (int64_t t = 0; t < n_chosen; ++t) hn::Store(none, d, top + t * kGroupLanes);
  for (int64_t b = 0; b < n; ++b) {
    float* at = s.scores + b * kGroupLanes + v * kLanes;
    const auto earlier = hn::RebindMask(d, hn::Lt(hn::Set(DI(), static_cast<int32_t>(b)), own));
    VF score = hn::Load(d, at);
    score = hn::IfThenElse(hn::And(earlier, hn::Gt(score, none)), score, none);  // (NaN > none is false)
    hn::Store(score, d, at);
    if (hn::AllFalse(d, hn::Gt(score, hn::Load(d, top + (n_chosen - 1) * kGroupLanes)))) continue;
    for (int64_t t = 0; t < n_chosen; ++t) {
      const VF old = hn::Load(d, top + t * kGroupLanes);
      hn::Store(hn::Max(old, score), d, top + t * kGroupLanes);
      score = hn::Min(old, score);
    }
  }
}

// Writes the blocks of one vector of queries, in order. list_of(lane): where a query's choice goes.
template <typename ListOf>
HWY_INLINE void write_chosen(const ChoiceState& s, int64_t n, int64_t n_chosen, int64_t n_lanes, int v,
                             const ListOf& list_of) {
  const DF d;
  const float* smallest = s.top + (n_chosen - 1) * kGroupLanes;
  const VF least = hn::Load(d, smallest + v * kLanes);
  const VF none = hn::Set(d, -INFINITY);
  const int64_t end = std::min<int64_t>(n_lanes, (v + 1) * kLanes);
  for (int64_t l = v * kLanes; l < end; ++l) {
    s.ties[l] = s.n_written[l] = 0;
    for (int64_t t = 0; t < n_chosen; ++t) s.ties[l] += s.top[t * kGroupLanes + l] == smallest[l] ? 1 : 0;
  }
  for (int64_t b = 0; b < n; ++b) {
    const float* at = s.scores + b * kGroupLanes;
    const VF score = hn::Load(d, at + v * kLanes);
    uint8_t bits[8] = {};
    hn::StoreMaskBits(d, hn::And(hn::Ge(score, least), hn::Gt(score, none)), bits);
    for (int64_t first = 0; first < kLanes; first += 8) {
      for (uint32_t left = bits[first / 8]; left != 0; left &= left - 1) {
        const int64_t l = v * kLanes + first + __builtin_ctz(left);
        if (l >= end) break;
        if (at[l] == smallest[l] && s.ties[l]-- <= 0) continue;
        list_of(l)[s.n_written[l]++] = static_cast<int32_t>(b);
      }
    }
  }
  for (int64_t l = v * kLanes; l < end; ++l)
    std::fill(list_of(l) + s.n_written[l], list_of(l) + n_chosen, -1);
}

void ChooseBlocksTile(const BlockChoice& c, int64_t row, int64_t n_rows, int64_t kv_head, float* scratch,
                      int32_t* chosen) {
  const int64_t dim = c.q.layout.dim, n_heads = c.q.layout.n, group = n_heads / c.n_kv_heads;
  // The bounds of the last row hold for all.
  const int64_t most = block_of(c.starts, c.first_position + row + n_rows - 1);
  Carver carver({scratch, static_cast<size_t>(choose_blocks_scratch(dim, most, c.n_chosen))});
  ChoiceState s{};
  layout_choice(dim, most, c.n_chosen, carver, s);
  TilePrefetcher ahead;
  const int64_t total = n_rows * group;
  for (int64_t first = 0; first < total; first += kGroupLanes) {
    const int64_t n_lanes = std::min(kGroupLanes, total - first);
    const auto row_of = [&](int64_t l) { return row + (first + std::min(l, n_lanes - 1)) / group; };
    const auto head_of = [&](int64_t l) {
      return kv_head * group + (first + std::min(l, n_lanes - 1)) % group;
    };
    const auto list_of = [&](int64_t l) { return chosen + (row_of(l) * n_heads + head_of(l)) * c.n_chosen; };
    for (int64_t l = 0; l < kGroupLanes; l += std::min<int64_t>(4, kGroupLanes)) {
      const float* rows[4];
      for (int64_t i = 0; i < 4; ++i) rows[i] = c.q.at(c.batch, c.first_row + row_of(l + i), head_of(l + i));
      pack_four(rows, 1.0F, dim, s.query + l);
    }
    int64_t own = block_of(c.starts, c.first_position + row_of(0));
    for (int64_t l = 0; l < kGroupLanes; ++l) {
      const int64_t position = c.first_position + row_of(l);
      while (own + 1 < std::ssize(c.starts) && c.starts[static_cast<size_t>(own + 1)] <= position) ++own;
      s.own[l] = static_cast<int32_t>(own);
    }
    const int64_t n = own;
    tile_scores(s.query, c.means + kv_head * dim, c.n_kv_heads * dim, n, dim,
                n_lanes <= kLanes ? kFirst : kBoth, s.scores, ahead);
    for (int v = 0; v * kLanes < n_lanes; ++v) {
      insert_scores(s, n, c.n_chosen, v);
      write_chosen(s, n, c.n_chosen, n_lanes, v, list_of);
    }
  }
}

int64_t ChooseBlocksScratch(int64_t head_dim, int64_t n_blocks, int64_t n_chosen) {
  Carver carver;
  ChoiceState s{};
  layout_choice(head_dim, n_blocks, n_chosen, carver, s);
  return carver.used();
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sepllm
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sepllm {
namespace {
HWY_EXPORT(ChooseBlocksTile);
HWY_EXPORT(ChooseBlocksScratch);
}  // namespace

void choose_blocks_tile(const BlockChoice& choice, int64_t row, int64_t n, int64_t kv_head, float* scratch,
                        int32_t* chosen) {
  HWY_DYNAMIC_DISPATCH(ChooseBlocksTile)(choice, row, n, kv_head, scratch, chosen);
}

int64_t choose_blocks_scratch(int64_t head_dim, int64_t n_blocks, int64_t n_chosen) {
  return HWY_DYNAMIC_DISPATCH(ChooseBlocksScratch)(head_dim, n_blocks, n_chosen);
}

}  // namespace sepllm
#endif  // HWY_ONCE
