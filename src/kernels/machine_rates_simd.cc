#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/machine_rates_simd.cc"
#include <hwy/foreach_target.h>  // must come first

#include "kernels/machine_rates.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sepllm {
namespace HWY_NAMESPACE {
namespace {

uint32_t SumWords(const uint32_t* words, int64_t begin, int64_t end) {
  constexpr DU d;
  const int64_t quarter = (end - begin) / 4;
  const uint32_t* p = words + begin;
  auto s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
  for (int64_t i = 0; i < quarter; i += kLanes) {
    s0 = hn::Add(s0, hn::LoadU(d, p + i));
    s1 = hn::Add(s1, hn::LoadU(d, p + i + quarter));
    s2 = hn::Add(s2, hn::LoadU(d, p + i + 2 * quarter));
    s3 = hn::Add(s3, hn::LoadU(d, p + i + 3 * quarter));
  }
  // Lane by lane: the compiler's own sum across an AVX-512 vector is one of signed integers, which overflow.
  HWY_ALIGN uint32_t lanes[kLanes];
  hn::Store(hn::Add(hn::Add(s0, s1), hn::Add(s2, s3)), d, lanes);
  uint32_t sum = 0;
  for (const uint32_t lane : lanes) sum += lane;
  return sum;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sepllm
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sepllm {
namespace {
HWY_EXPORT(SumWords);
}  // namespace

uint32_t sum_words(const uint32_t* words, int64_t begin, int64_t end) {
  return HWY_DYNAMIC_DISPATCH(SumWords)(words, begin, end);
}

}  // namespace sepllm
#endif  // HWY_ONCE
