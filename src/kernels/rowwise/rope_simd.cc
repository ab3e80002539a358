#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/rowwise/rope_simd.cc"
#include <hwy/foreach_target.h>  // must come first

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/check.h"
#include "kernels/formats/element.h"
#include "kernels/formats/rows.h"
#include "kernels/parallel.h"
#include "kernels/rowwise/rope.h"
#include "kernels/simd-inl.h"

#ifndef SEPLLM_KERNELS_ROPE_ONCE
#define SEPLLM_KERNELS_ROPE_ONCE
namespace sepllm {
namespace {

// One pair, for those that do not fill a vector.
template <typename T>
void rotate_pair(DType type, const T* x, T* y, int64_t first, int64_t second, float cos, float sin) {
  const float a = load_element(type, x, first);
  const float b = load_element(type, x, second);
  store_element(type, y, first, a * cos - b * sin);
  store_element(type, y, second, b * cos + a * sin);
}

DType type_of(const float*) { return DType::kF32; }
DType type_of(const f16*) { return DType::kF16; }
DType type_of(const bf16*) { return DType::kBF16; }

}  // namespace
}  // namespace sepllm
#endif

HWY_BEFORE_NAMESPACE();
namespace sepllm {
namespace HWY_NAMESPACE {
namespace {

// Pairs (i, i + n_freq).
template <typename T>
void rotate_half(const T* x, T* y, int64_t n_freq, const float* cos, const float* sin) {
  int64_t i = 0;
  for (; i + kLanes <= n_freq; i += kLanes) {
    const VF a = load(x + i);
    const VF b = load(x + i + n_freq);
    const VF c = load(cos + i);
    const VF s = load(sin + i);
    store(hn::NegMulAdd(b, s, hn::Mul(a, c)), y + i);
    store(hn::MulAdd(a, s, hn::Mul(b, c)), y + i + n_freq);
  }
  for (; i < n_freq; ++i) rotate_pair(type_of(x), x, y, i, i + n_freq, cos[i], sin[i]);
}

// Pairs (2 i, 2 i + 1).
void rotate_interleaved(const float* x, float* y, int64_t n_freq, const float* cos, const float* sin) {
  int64_t i = 0;
  for (; i + kLanes <= n_freq; i += kLanes) {
    VF a, b;
    hn::LoadInterleaved2(DF(), x + 2 * i, a, b);
    const VF c = load(cos + i);
    const VF s = load(sin + i);
    const VF first = hn::NegMulAdd(b, s, hn::Mul(a, c));
    const VF second = hn::MulAdd(a, s, hn::Mul(b, c));
    hn::StoreInterleaved2(first, second, DF(), y + 2 * i);
  }
  for (; i < n_freq; ++i) rotate_pair(DType::kF32, x, y, 2 * i, 2 * i + 1, cos[i], sin[i]);
}
template <typename T>
void rotate_interleaved(const T* x, T* y, int64_t n_freq, const float* cos, const float* sin) {
  for (int64_t i = 0; i < n_freq; ++i) {
    rotate_pair(type_of(x), x, y, 2 * i, 2 * i + 1, cos[i], sin[i]);
  }
}

template <typename T>
void rotate(const T* x, T* y, int64_t n_freq, RopePairing pairing, const float* cos, const float* sin) {
  if (pairing == RopePairing::kInterleaved) {
    rotate_interleaved(x, y, n_freq, cos, sin);
  } else {
    rotate_half(x, y, n_freq, cos, sin);
  }
}

void RotateF32(const float* x, float* y, RopePairing pairing, const RopeTables& t) {
  rotate(x, y, t.n_freq, pairing, t.cos, t.sin);
}

void RotateStored(DType type, void* row, RopePairing pairing, const RopeTables& t) {
  switch (type) {
    case DType::kF32:
      return rotate(static_cast<float*>(row), static_cast<float*>(row), t.n_freq, pairing, t.cos, t.sin);
    case DType::kF16:
      return rotate(static_cast<f16*>(row), static_cast<f16*>(row), t.n_freq, pairing, t.cos, t.sin);
    case DType::kBF16:
      return rotate(static_cast<bf16*>(row), static_cast<bf16*>(row), t.n_freq, pairing, t.cos, t.sin);
    default:
      break;  // refused below
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sepllm
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sepllm {
namespace {
HWY_EXPORT(RotateF32);
HWY_EXPORT(RotateStored);

constexpr int64_t kBlockRows = 16;
// A sine or cosine costs as much as this many multiply-adds.
constexpr int64_t kAngleWork = 32;
}  // namespace

void rope_tables(const Context& ctx, std::span<const double> inv_freq, std::span<const int64_t> positions,
                 float* cos, float* sin, double factor) {
  const auto n = static_cast<int64_t>(inv_freq.size());
  const auto n_rows = static_cast<int64_t>(positions.size());
  parallel_blocks(ctx, n_rows, kBlockRows, n_rows * n * kAngleWork, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t i = 0; i < n; ++i) {
        // In double, std::cos and std::sin reduce the angle exactly.
        const double angle = static_cast<double>(positions[static_cast<size_t>(r)]) * inv_freq[i];
        cos[r * n + i] = static_cast<float>(factor * std::cos(angle));
        sin[r * n + i] = static_cast<float>(factor * std::sin(angle));
      }
    }
  });
}

void rope_rotate(const Context& ctx, const Heads& x, const Heads& y, int64_t n_rows, RopePairing pairing,
                 const RopeTables& tables) {
  const int64_t n = x.layout.n, dim = x.layout.dim, rotated = 2 * tables.n_freq;
  SEPLLM_CHECK(n == y.layout.n && dim == y.layout.dim && rotated <= dim);
  parallel_blocks(ctx, n_rows, kBlockRows, n_rows * n * dim, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t h = 0; h < n; ++h) {
        const float* from = x.at(r, h);
        float* to = y.at(r, h);
        HWY_DYNAMIC_DISPATCH(RotateF32)(from, to, pairing, tables.from(r));
        if (to != from) std::copy(from + rotated, from + dim, to + rotated);
      }
    }
  });
}

void rope_rotate_stored(DType type, void* row, RopePairing pairing, const RopeTables& tables) {
  SEPLLM_CHECK(type != DType::kI8 &&
               !is_block_type(type));  // for int8 the row's scale changes; see rope_rotate_quantized
  HWY_DYNAMIC_DISPATCH(RotateStored)(type, row, pairing, tables);
}

void rope_rotate_quantized(int8_t* row, float* scale, int64_t head_dim, RopePairing pairing,
                           const RopeTables& tables, float* scratch) {
  SEPLLM_CHECK(2 * tables.n_freq <= head_dim);
  row_to_f32(DType::kI8, row, head_dim, scratch);
  for (int64_t d = 0; d < head_dim; ++d) scratch[d] *= *scale;
  HWY_DYNAMIC_DISPATCH(RotateF32)(scratch, scratch, pairing, tables);
  *scale = quantize_row(scratch, head_dim, row);
}

}  // namespace sepllm
#endif  // HWY_ONCE
