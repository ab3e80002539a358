#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/linear/linear_blocks_simd.cc"
#include <hwy/foreach_target.h>  // must come first

#include <cstdint>

#include "kernels/cpu_features.h"
#include "kernels/formats/panels.h"
#include "kernels/linear/linear_blocks.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sepllm {
namespace HWY_NAMESPACE {
namespace {

using VU = hn::Vec<DU>;

void RunPanels(const PanelRun& run, const QuantizedRows& x) {
#if HWY_TARGET == HWY_AVX3
  if ((cpu_features() & kVnni) != 0) return run_panels_vnni(run, x);
#endif
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2
  return run_panels_avx2(run, x);
#else
  return run_panels_plain(run, x);
#endif
}

// The exact product: the sums of a block are made from weights without their scale.

// Registers for the sums: 32 with AVX-512, else 16.
constexpr int kMaxRows = HWY_TARGET == HWY_AVX3 ? 4 : 2;

// The values in the bits from kShift on of each word, minus the value that stands for zero.
template <typename Panel, int kShift>
HWY_INLINE VF weights_of(VU w) {
#if HWY_TARGET == HWY_AVX3
  if constexpr (Panel::kForm.bits == 4 && Panel::kForm.zero == 8) {
    // The instruction reads only the lowest 4 bits.
    const __m512 values = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
    return VF{_mm512_permutexvar_ps(hn::ShiftRight<kShift>(w).raw, values)};
  }
#endif
  // Bits of a float: 2^23 + value.
  const VU bits =
      hn::And(hn::ShiftRight<kShift>(w), hn::Set(DU(), static_cast<uint32_t>(Panel::kForm.mask())));
  return hn::Sub(hn::BitCast(DF(), hn::Or(bits, hn::Set(DU(), 0x4B000000U))),
                 hn::Set(DF(), 8388608.0F + Panel::kForm.zero));
}

// Two sums for each row, of even and of odd inputs, because shorter chains of additions are faster.
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
};

// Fetches ahead, one line for each line that is read, because the fetches of a burst would wait for each
// other. With ahead == 0 nothing is fetched.
HWY_INLINE void fetch_ahead(int ahead, const char* line) {
  if (ahead > 0) __builtin_prefetch(line + ahead);
}

template <int kRows>
HWY_INLINE void exact_product(BytePanel, const char* pair, int ahead, const float* x, int64_t stride,
                              float* sums) {
  fetch_ahead(ahead, pair + 16 * 64);
  for (int64_t o = 0; o < kPanelOutputs; o += kLanes) {
    for (int64_t b = 0; b < 2; ++b) {
      BlockSums<kRows> sum;
      sum.clear();
      for (int64_t j = 8 * b; j < 8 * b + 8; ++j) {
        fetch_ahead(o == 0 ? ahead : 0, pair + 64 * j);
        const VU w = hn::LoadU(DU(), reinterpret_cast<const uint32_t*>(pair + 64 * j) + o);
        sum.add(weights_of<BytePanel, 0>(w), weights_of<BytePanel, 8>(w), weights_of<BytePanel, 16>(w),
                weights_of<BytePanel, 24>(w), x + 4 * j, stride);
      }
      sum.scale_into(load(reinterpret_cast<const f16*>(pair + 16 * 64 + 32 * b) + o), sums + o);
    }
  }
}

template <int kRows>
HWY_INLINE void exact_product(NibblePanel, const char* pair, int ahead, const float* x, int64_t stride,
                              float* sums) {
  fetch_ahead(ahead, pair + 8 * 64);
  for (int64_t o = 0; o < kPanelOutputs; o += kLanes) {
    BlockSums<kRows> low, high;
    low.clear();
    high.clear();
    for (int64_t j = 0; j < 8; ++j) {
      fetch_ahead(o == 0 ? ahead : 0, pair + 64 * j);
      const VU w = hn::LoadU(DU(), reinterpret_cast<const uint32_t*>(pair + 64 * j) + o);
      low.add(weights_of<NibblePanel, 0>(w), weights_of<NibblePanel, 8>(w), weights_of<NibblePanel, 16>(w),
              weights_of<NibblePanel, 24>(w), x + 4 * j, stride);
      high.add(weights_of<NibblePanel, 4>(w), weights_of<NibblePanel, 12>(w), weights_of<NibblePanel, 20>(w),
               weights_of<NibblePanel, 28>(w), x + 32 + 4 * j, stride);
    }
    const auto* scales = reinterpret_cast<const f16*>(pair + 8 * 64);
    low.scale_into(load(scales + o), sums + o);
    high.scale_into(load(scales + kPanelOutputs + o), sums + o);
  }
}

template <typename Panel>
void exact_pairs(const PanelRun& a, const float* x, int64_t stride) {
  const int64_t bytes = Panel::kForm.pair_bytes();
  for (int64_t p = 0; p < a.n_pairs; ++p) {
    for (int s = 0; s < a.n_streams; ++s) {
      const char* pair = a.panels[s] + p * bytes;
      const float* at = x + p * kPairElements;
      int64_t r = 0;
      for (; r + kMaxRows <= a.n_rows; r += kMaxRows)
        exact_product<kMaxRows>(Panel(), pair, r == 0 ? a.ahead : 0, at + r * stride, stride, a.sum(s, r));
      if (kMaxRows > 2 && r + 2 <= a.n_rows) {
        exact_product<2>(Panel(), pair, r == 0 ? a.ahead : 0, at + r * stride, stride, a.sum(s, r));
        r += 2;
      }
      if (r < a.n_rows)
        exact_product<1>(Panel(), pair, r == 0 ? a.ahead : 0, at + r * stride, stride, a.sum(s, r));
    }
  }
}

void RunPanelsExact(const PanelRun& run, const float* x, int64_t stride) {
  with_panel(run.type, [&](auto panel) { exact_pairs<decltype(panel)>(run, x, stride); });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sepllm
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sepllm {
namespace {
HWY_EXPORT(RunPanels);
HWY_EXPORT(RunPanelsExact);
}  // namespace

void run_panels(const PanelRun& run, const QuantizedRows& x) { HWY_DYNAMIC_DISPATCH(RunPanels)(run, x); }
void run_panels_exact(const PanelRun& run, const float* x, int64_t stride) {
  HWY_DYNAMIC_DISPATCH(RunPanelsExact)(run, x, stride);
}

}  // namespace sepllm
#endif  // HWY_ONCE
