// GCC 12's AMX intrinsics do not tell the compiler which memory they read and write: the tile configuration's
// stores are removed and ldtilecfg faults. The same instructions with that said. For: -include on the command
// line.
#pragma once
#ifdef __cplusplus
#include <immintrin.h>
#if defined(__AMX_TILE__) && defined(__GNUC__) && !defined(__clang__)
#undef _tile_loadconfig
#undef _tile_loadd
#undef _tile_stream_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbssd
#undef _tile_dpbusd
#define SEPLLM_TILE_LOAD(name, dst, base, stride)                                                 \
  __asm__ volatile(name "\t(%0,%1,1), %%tmm" #dst ::"r"((const void*)(base)), "r"((long)(stride)) \
                   : "memor"                                                                      \
                     "y")
#define SEPLLM_TILE_DP(name, dst, a, b) \
  __asm__ volatile(name "\t%%tmm" #b ", %%tmm" #a ", %%tmm" #dst ::: "memory")
#define _tile_loadconfig(p) __asm__ volatile("ldtilecfg\t%0" ::"m"(*(const char(*)[64])(p)) : "memory")
#define _tile_loadd(dst, base, stride) SEPLLM_TILE_LOAD("tileloadd", dst, base, stride)
#define _tile_stream_loadd(dst, base, stride) SEPLLM_TILE_LOAD("tileloaddt1", dst, base, stride)
#define SEPLLM_TILE_STORE(dst, base, stride)                                                        \
  __asm__ volatile("tilestored\t%%tmm" #dst ", (%0,%1,1)" ::"r"((void*)(base)), "r"((long)(stride)) \
                   : "memory")
#define _tile_stored(dst, base, stride) SEPLLM_TILE_STORE(dst, base, stride)
#define SEPLLM_TILE_ZERO(dst) __asm__ volatile("tilezero\t%%tmm" #dst ::: "memory")
#define _tile_zero(dst) SEPLLM_TILE_ZERO(dst)
#define _tile_dpbssd(dst, a, b) SEPLLM_TILE_DP("tdpbssd", dst, a, b)
#define _tile_dpbusd(dst, a, b) SEPLLM_TILE_DP("tdpbusd", dst, a, b)
#endif
#endif
