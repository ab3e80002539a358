// Instructions that some kernels use in addition to Highway's targets.
#pragma once

#include <cstdint>
#include <string>

namespace sepllm {

enum CpuFeature : unsigned {
  kVnni = 1,     // AVX-512 with its dot products of bytes (VNNI)
  kAmxInt8 = 2,  // tiles of 8-bit integers, if the system allows this process to use them
  kAmxBf16 = 4,  // tiles of bf16, under the same condition
  kBf16 = 8,     // AVX-512 with its dot products of bf16 (AVX512_BF16)
};

// The features that this machine has and that are allowed, as a sum of bits. The first call asks the system
// for permission to use tiles, for all threads of the process.
unsigned cpu_features();
// From now on only these are used, as far as the machine has them: for tests and benchmarks.
void allow_cpu_features(unsigned features);
inline constexpr unsigned kAllCpuFeatures = ~0U;
// Whether products of bf16 with sums in f32 are made by instructions (FloatProducts::kBF16).
inline bool cpu_has_bf16_products() { return (cpu_features() & (kAmxBf16 | kBf16)) != 0; }
// The bytes of a core's second-level cache, or a usual size where the system does not say. Results never
// depend on it.
int64_t l2_bytes();
// The instruction sets that kernels use, such as "AVX3 VNNI BF16 AMX_INT8 AMX_BF16": Highway's name of its
// target, then the features above.
std::string instruction_sets();

}  // namespace sepllm
