#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/linear/linear_blocks_exact_simd.cc"
#include <hwy/foreach_target.h>  // must come first

#include <cstdint>

#include "kernels/formats/panels.h"
#include "kernels/linear/linear_blocks.h"
#include "kernels/linear/panel_values-inl.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sepllm {
namespace HWY_NAMESPACE {
namespace {

// The exact product: sums of a block from weights without their scale; with it where there are minima.

// Registers for the sums: 32 with AVX-512, else 16.
constexpr int kMaxRows = HWY_TARGET == HWY_AVX3 ? 4 : 2;

// Two sums for each row, of even and of odd inputs: shorter chains of additions.
template <int kRows>
struct BlockSums {
  VF even[kRows], odd[kRows];

  HWY_INLINE void clear() {
    for (int r = 0; r < kRows; ++r) even[r] = odd[r] = hn::Zero(DF());
  }
  // Adds 4 inputs.
  HWY_INLINE void add(VF w0, VF w1, VF w2, VF w3, const float* x, int64_t stride) {
    HWY_UNROLL(4)
    for (int r = 0; r < kRows; ++r, x += stride) {
      even[r] = hn::MulAdd(w0, hn::Set(DF(), x[0]), even[r]);
      odd[r] = hn::MulAdd(w1, hn::Set(DF(), x[1]), odd[r]);
      even[r] = hn::MulAdd(w2, hn::Set(DF(), x[2]), even[r]);
      odd[r] = hn::MulAdd(w3, hn::Set(DF(), x[3]), odd[r]);
    }
  }
  HWY_INLINE void scale_into(VF scale, float* sums) const {
    for (int r = 0; r < kRows; ++r) {
      float* at = sums + r * kPanelOutputs;
      store(hn::MulAdd(hn::Add(even[r], odd[r]), scale, load(at)), at);
    }
  }
  HWY_INLINE void add_into(float* sums) const {
    for (int r = 0; r < kRows; ++r) {
      float* at = sums + r * kPanelOutputs;
      store(hn::Add(hn::Add(even[r], odd[r]), load(at)), at);
    }
  }
};

// Fetches ahead, a line for each that is read: in a burst they would wait for each other. ahead == 0: not at
// all.
HWY_INLINE void fetch_ahead(int ahead, const char* line) {
  if (ahead > 0) __builtin_prefetch(line + ahead);
}

struct ExactPair {
  const char* pair;
  int index;  // in the unit
  const UnitTable& table;
  int ahead;
  const float* x;
  int64_t stride;
};

// Lines [begin, end) of a group, for the outputs from o on.
template <typename Panel, int kGroup, int kRows>
HWY_INLINE void add_lines(const ExactPair& p, int begin, int end, int64_t o, BlockSums<kRows>* sums) {
  constexpr PanelForm kForm = Panel::kForm;
  const float* x = p.x + kGroup * kGroupElements;
  VF scale = hn::Zero(DF()), minimum = hn::Zero(DF());
  if constexpr (kForm.has_minima()) {
    scale = group_scale<Panel>(p.pair, p.table, p.index, kGroup, 0, o);
    minimum = load(p.table.minimum[2 * p.index + kGroup] + o);
  }
  for (int j = begin; j < end; ++j) {
    if (o == 0 && (kGroup == 0 || kForm.bits == 8))
      fetch_ahead(p.ahead, p.pair + 64 * (kForm.group_line(kGroup) + j));
    with_line_values<Panel, kGroup>(p.pair, j, o, [&](VF w0, VF w1, VF w2, VF w3) HWY_ATTR {
      if constexpr (Panel::kForm.has_minima()) {
        w0 = hn::MulAdd(w0, scale, minimum);
        w1 = hn::MulAdd(w1, scale, minimum);
        w2 = hn::MulAdd(w2, scale, minimum);
        w3 = hn::MulAdd(w3, scale, minimum);
      }
      sums->add(w0, w1, w2, w3, x + 4 * j, p.stride);
    });
  }
}

template <typename Panel, int kRows, int kGroup>
HWY_INLINE void exact_group(const ExactPair& p, int64_t o, float* sums) {
  constexpr PanelForm kForm = Panel::kForm;
  constexpr int kLines = 8 / kForm.parts();
  for (int part = 0; part < kForm.parts(); ++part) {
    BlockSums<kRows> sum;
    sum.clear();
    add_lines<Panel, kGroup>(p, part * kLines, (part + 1) * kLines, o, &sum);
    if constexpr (kForm.has_minima()) {
      sum.add_into(sums + o);
    } else {
      sum.scale_into(group_scale<Panel>(p.pair, p.table, p.index, kGroup, part, o), sums + o);
    }
  }
}

template <typename Panel, int kRows>
void exact_product(const ExactPair& p, float* sums) {
  constexpr PanelForm kForm = Panel::kForm;
  constexpr int kOthers = kForm.bits == 8 ? 16 : 8;  // lines that add_lines() does not fetch
  for (int64_t k = kOthers; k < kForm.pair_bytes() / 64; ++k) fetch_ahead(p.ahead, p.pair + 64 * k);
  for (int64_t o = 0; o < kPanelOutputs; o += kLanes) {
    exact_group<Panel, kRows, 0>(p, o, sums);
    exact_group<Panel, kRows, 1>(p, o, sums);
  }
}

template <typename Panel>
void exact_units(const PanelRun& a, const float* x, int64_t stride) {
  constexpr PanelForm kForm = Panel::kForm;
  UnitTable table;
  for (int64_t u = 0; u < a.n_units; ++u) {
    for (int s = 0; s < a.n_streams; ++s) {
      const char* unit = a.panels[s] + u * kForm.unit_bytes();
      fill_table<Panel>(unit, &table);
      for (int k = 0; k < kForm.head_lines(); ++k) fetch_ahead(a.ahead, unit + 64 * k);
      for (int k = 0; k < kForm.pairs(); ++k) {
        ExactPair p{
            unit + kForm.pair_at(k), k, table, a.ahead, x + (u * kForm.pairs() + k) * kPairElements, stride};
        int64_t r = 0;
        const auto next = [&](int64_t n) {
          r += n;
          p.ahead = 0;
          p.x += n * stride;
        };
        for (; r + kMaxRows <= a.n_rows; next(kMaxRows)) exact_product<Panel, kMaxRows>(p, a.sum(s, r));
        if (kMaxRows > 2 && r + 2 <= a.n_rows) {
          exact_product<Panel, 2>(p, a.sum(s, r));
          next(2);
        }
        if (r < a.n_rows) exact_product<Panel, 1>(p, a.sum(s, r));
      }
    }
  }
}

void RunPanelsExact(const PanelRun& run, const float* x, int64_t stride) {
  with_panel(run.type, [&](auto panel) { exact_units<decltype(panel)>(run, x, stride); });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sepllm
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sepllm {
namespace {
HWY_EXPORT(RunPanelsExact);
}  // namespace

void run_panels_exact(const PanelRun& run, const float* x, int64_t stride) {
  HWY_DYNAMIC_DISPATCH(RunPanelsExact)(run, x, stride);
}

}  // namespace sepllm
#endif  // HWY_ONCE
