#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/machine_rates_simd.cc"
#include <hwy/foreach_target.h>  // must come first

#include <cstdint>

#include "kernels/machine_rates.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sepllm {
namespace HWY_NAMESPACE {
namespace {

template <int kStreams>
uint32_t sum_streams(const uint32_t* words, int64_t n, int64_t ahead) {
  constexpr DU d;
  constexpr int64_t kLine = 64 / sizeof(uint32_t);
  constexpr int kSums =
      kStreams == 1 ? 4 : 1;  // for each stream: a single one's additions would wait for each other
  constexpr int64_t kStep = kSums * kLine;
  const int64_t length = n / kStreams;
  hn::Vec<DU> sums[kStreams][kSums];
  for (auto& of_stream : sums) {
    for (auto& sum : of_stream) sum = hn::Zero(d);
  }
  for (int64_t i = 0; i < length; i += kStep) {
    for (int s = 0; s < kStreams; ++s) {
      const uint32_t* p = words + s * length + i;
      if (ahead > 0) {
        for (int64_t k = 0; k < kStep; k += kLine)
          __builtin_prefetch(reinterpret_cast<const char*>(p + k) + ahead);
      }
      HWY_UNROLL(4)
      for (int j = 0; j < kSums; ++j) {
        for (int64_t k = 0; k < kLine; k += kLanes)
          sums[s][j] = hn::Add(sums[s][j], hn::LoadU(d, p + j * kLine + k));
      }
    }
  }
  uint32_t sum = 0;
  for (const auto& of_stream : sums) {
    for (const auto& part : of_stream) {
      // Lane by lane: the compiler's own sum across an AVX-512 vector is one of signed integers, which
      // overflow.
      HWY_ALIGN uint32_t lanes[kLanes];
      hn::Store(part, d, lanes);
      for (const uint32_t lane : lanes) sum += lane;
    }
  }
  return sum;
}

uint32_t SumWords(const uint32_t* words, int64_t begin, int64_t end, const Walk& walk) {
  const uint32_t* from = words + begin;
  switch (walk.streams) {
    case 1:
      return sum_streams<1>(from, end - begin, walk.ahead);
    case 2:
      return sum_streams<2>(from, end - begin, walk.ahead);
    case 8:
      return sum_streams<8>(from, end - begin, walk.ahead);
    default:
      return sum_streams<4>(from, end - begin, walk.ahead);
  }
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

uint32_t sum_words(const uint32_t* words, int64_t begin, int64_t end, const Walk& walk) {
  return HWY_DYNAMIC_DISPATCH(SumWords)(words, begin, end, walk);
}

}  // namespace sepllm
#endif  // HWY_ONCE
