#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/linear/linear_blocks_simd.cc"
#include <hwy/foreach_target.h>  // must come first

#include "kernels/cpu_features.h"
#include "kernels/linear/linear_blocks.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sepllm {
namespace HWY_NAMESPACE {
namespace {

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

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sepllm
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sepllm {
namespace {
HWY_EXPORT(RunPanels);
}  // namespace

void run_panels(const PanelRun& run, const QuantizedRows& x) { HWY_DYNAMIC_DISPATCH(RunPanels)(run, x); }
}  // namespace sepllm
#endif  // HWY_ONCE
