#include "kernels/cpu_features.h"

#include <hwy/highway.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <string>
#include <utility>

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#endif

namespace sepllm {
namespace {

#if defined(__x86_64__) && defined(__linux__)
// Tiles are 8 KiB of registers that Linux (since 5.16) saves only for processes that have asked for it.
bool may_use_tiles() {
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM of asm/prctl.h
  constexpr long kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

bool bit(unsigned word, int n) { return ((word >> n) & 1U) != 0; }

// Whether the processor has AVX-512 F, DQ, BW and VL, and the system saves its registers.
bool has_avx512(unsigned leaf7_ebx) {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || !bit(c, 27)) return false;
  unsigned low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (low & 0xE6U) == 0xE6U && bit(leaf7_ebx, 16) && bit(leaf7_ebx, 17) && bit(leaf7_ebx, 30) &&
         bit(leaf7_ebx, 31);
}

unsigned detect() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || !has_avx512(b)) return 0;
  unsigned found = bit(c, 11) ? kVnni : 0U;
  if (bit(d, 24) && may_use_tiles()) found |= (bit(d, 25) ? kAmxInt8 : 0U) | (bit(d, 22) ? kAmxBf16 : 0U);
  const bool has_more_leaves = __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0;
  if (has_more_leaves && bit(a, 5)) found |= kBf16;
  return found;
}
#else
unsigned detect() { return 0; }
#endif

std::atomic<unsigned> g_allowed{kAllCpuFeatures};

}  // namespace

unsigned cpu_features() {
  static const unsigned found = detect();
  return found & g_allowed.load(std::memory_order_relaxed);
}

void allow_cpu_features(unsigned features) { g_allowed.store(features, std::memory_order_relaxed); }

int64_t l2_bytes() {
  static const int64_t bytes = [] {
    constexpr int64_t kUsual = int64_t{1} << 20;
    int64_t found = 0;
#ifdef _SC_LEVEL2_CACHE_SIZE
    found = ::sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
    return found <= 0 ? kUsual : std::clamp(found, kUsual / 4, 4 * kUsual);
  }();
  return bytes;
}

std::string instruction_sets() {
  const int64_t targets = hwy::SupportedTargets() & HWY_TARGETS;
  std::string out = hwy::TargetName(targets & -targets);  // the best one is the lowest bit
  constexpr std::pair<CpuFeature, const char*> kNames[] = {
      {kVnni, " VNNI"}, {kBf16, " BF16"}, {kAmxInt8, " AMX_INT8"}, {kAmxBf16, " AMX_BF16"}};
  for (const auto& [feature, name] : kNames) {
    if ((cpu_features() & feature) != 0) out += name;
  }
  return out;
}

}  // namespace sepllm
