// Which of the processor's instruction sets may be used: to measure one as a smaller machine would have it.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace sepllm {

struct CpuLimit {
  const char* name;      // as SEPLLM_CPU has it
  const char* openblas;  // the kernels of OpenBLAS for it (OPENBLAS_CORETYPE, read when OpenBLAS is loaded)
  bool avx512;
  unsigned features;  // CpuFeature: what may be used beyond Highway's targets
};

// avx2, avx512 (without dot products), vnni, bf16 (VNNI and AVX512_BF16), amx.
const std::vector<CpuLimit>& cpu_limits();
// The one that SEPLLM_CPU names; nullptr where it is not set. Error (kInvalidArgument) for another name.
const CpuLimit* stated_cpu_limit();
// From now on our kernels use nothing beyond it, as far as the machine has it at all. Not while kernels run.
void limit_cpu(const CpuLimit& limit);
// Whether this machine has what the limit allows at most (else a measurement is one of something less).
bool cpu_reaches(const CpuLimit& limit);

}  // namespace sepllm
