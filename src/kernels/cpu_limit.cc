#include "kernels/cpu_limit.h"

#include <fmt/format.h>
#include <hwy/highway.h>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "kernels/cpu_features.h"

namespace sepllm {
namespace {

// Highway's targets of 512 bits.
constexpr int64_t kWideTargets = HWY_AVX3 | HWY_AVX3_DL;

}  // namespace

const std::vector<CpuLimit>& cpu_limits() {
  static const std::vector<CpuLimit> limits = {
      {"avx2", "Haswell", false, 0},
      {"avx512", "SkylakeX", true, 0},
      {"vnni", "SkylakeX", true, kVnni},
      {"bf16", "Cooperlake", true, kVnni | kBf16},
      {"amx", "SapphireRapids", true, kVnni | kBf16 | kAmxInt8 | kAmxBf16},
  };
  return limits;
}

const CpuLimit* stated_cpu_limit() {
  const char* value = std::getenv("SEPLLM_CPU");
  if (value == nullptr || *value == '\0') return nullptr;
  std::string names;
  for (const CpuLimit& limit : cpu_limits()) {
    if (std::string_view(value) == limit.name) return &limit;
    names += (names.empty() ? "" : ", ") + std::string(limit.name);
  }
  throw Error(ErrorCode::kInvalidArgument, "wrong value of SEPLLM_CPU",
              {.expected = "one of " + names, .got = value});
}

void limit_cpu(const CpuLimit& limit) {
  hwy::DisableTargets(limit.avx512 ? 0 : kWideTargets);
  allow_cpu_features(limit.features);
}

bool cpu_reaches(const CpuLimit& limit) {
  const bool wide = (hwy::SupportedTargets() & kWideTargets) != 0;
  return (wide || !limit.avx512) && (cpu_features() & limit.features) == limit.features;
}

}  // namespace sepllm
