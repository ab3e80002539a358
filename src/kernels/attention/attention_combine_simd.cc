// The last step of attention with split keys: the weighted mean of the splits' results.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention/attention_combine_simd.cc"
#include <hwy/foreach_target.h>  // must come first

#include <algorithm>
#include <cstdint>

#include "kernels/attention/attention_task.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sepllm {
namespace HWY_NAMESPACE {
namespace {

void Combine(const float* partials, int64_t step, int64_t n_splits, int64_t head_dim, float* out) {
  float top = partials[head_dim];
  for (int64_t s = 1; s < n_splits; ++s) top = std::max(top, partials[s * step + head_dim]);
  float total = 0;
  std::fill_n(out, head_dim, 0.0F);
  for (int64_t s = 0; s < n_splits; ++s) {
    const float* p = partials + s * step;
    const VF weight = exp2_fast(hn::Set(DF(), p[head_dim] - top));
    total += hn::GetLane(weight) * p[head_dim + 1];
    int64_t d = 0;
    for (; d + kLanes <= head_dim; d += kLanes)
      store(hn::MulAdd(weight, load(p + d), load(out + d)), out + d);
    for (; d < head_dim; ++d) out[d] += hn::GetLane(weight) * p[d];
  }
  const float inverse = 1.0F / total;
  for (int64_t d = 0; d < head_dim; ++d) out[d] *= inverse;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sepllm
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sepllm {
namespace {
HWY_EXPORT(Combine);
}  // namespace

void combine_splits(const float* partials, int64_t step, int64_t n_splits, int64_t head_dim, float* out) {
  HWY_DYNAMIC_DISPATCH(Combine)(partials, step, n_splits, head_dim, out);
}

}  // namespace sepllm
#endif  // HWY_ONCE
