// Instructions that some kernels use in addition to Highway's targets.
#pragma once

#include <string>

namespace sepllm {

enum CpuFeature : unsigned {
  kVnni = 1,     // AVX-512 with its dot products of bytes (VNNI)
  kAmxInt8 = 2,  // tiles of 8-bit integers, if the system allows this process to use them
  kAmxBf16 = 4,  // tiles of bf16, under the same condition
};

// The features that this machine has and that are allowed, as a sum of bits. The first call asks the system
// for permission to use tiles, for all threads of the process.
unsigned cpu_features();
// From now on only these are used, as far as the machine has them: for tests and benchmarks.
void allow_cpu_features(unsigned features);
inline constexpr unsigned kAllCpuFeatures = ~0U;
// The instruction sets that kernels use, such as "AVX3 VNNI AMX_INT8 AMX_BF16": Highway's name of its target,
// then the features above.
std::string instruction_sets();

}  // namespace sepllm
