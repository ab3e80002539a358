#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/rowwise/norm_backward_simd.cc"
#include <hwy/foreach_target.h>  // must come first

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "kernels/parallel.h"
#include "kernels/rowwise/norm.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sepllm {
namespace HWY_NAMESPACE {
namespace {

// Calls fn(i, n) for lanes [i, i + n) of a row; n < kLanes only at its end.
template <typename Fn>
HWY_INLINE void for_lanes(int64_t n, const Fn& fn) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) fn(i, kLanes);
  if (i < n) fn(i, n - i);
}
HWY_INLINE VF load_some(const float* p, int64_t n) { return n == kLanes ? load(p) : load_n(p, n); }
HWY_INLINE void store_some(VF v, float* p, int64_t n) { n == kLanes ? store(v, p) : store_n(v, p, n); }
HWY_INLINE VF first_lanes(VF v, int64_t n) {
  return n == kLanes ? v : hn::IfThenElseZero(hn::FirstN(DF(), static_cast<size_t>(n)), v);
}

// Rows have at most a few thousand columns: sums are kept in float lanes and finished in double.
void NormBackwardRow(const NormBackwardRowArgs& a) {
  const DF d;
  const auto count = static_cast<double>(a.n);
  double mean = 0;
  if (!a.rms) {
    VF sum = hn::Zero(d);
    for_lanes(a.n, [&](int64_t i, int64_t n) { sum = hn::Add(sum, load_some(a.x + i, n)); });
    mean = reduce_sum(sum) / count;
  }
  const auto shift = static_cast<float>(mean);
  const VF s = hn::Set(d, shift);
  VF squares = hn::Zero(d), products = hn::Zero(d), sum = hn::Zero(d);
  for_lanes(a.n, [&](int64_t i, int64_t n) {
    const VF centred = first_lanes(hn::Sub(load_some(a.x + i, n), s), n);
    const VF g = hn::Mul(load_some(a.dy + i, n), load_some(a.weight + i, n));
    squares = hn::MulAdd(centred, centred, squares);
    products = hn::MulAdd(g, centred, products);
    sum = hn::Add(sum, g);
  });
  const double variance = reduce_sum(squares) / count - (mean - shift) * (mean - shift);
  const double inverse = 1.0 / std::sqrt(variance + a.eps);
  // dx = inverse * (g - mean(g) - xhat * mean(g * xhat)); for RMS norm there is no mean(g).
  const VF r = hn::Set(d, static_cast<float>(inverse));
  const VF mean_g = hn::Set(d, a.rms ? 0.0F : static_cast<float>(reduce_sum(sum) / count));
  const VF slope = hn::Set(d, static_cast<float>(reduce_sum(products) * inverse / count));
  for_lanes(a.n, [&](int64_t i, int64_t n) {
    const VF dy = load_some(a.dy + i, n);
    const VF xhat = hn::Mul(hn::Sub(load_some(a.x + i, n), s), r);
    const VF g = hn::Mul(dy, load_some(a.weight + i, n));
    const VF dx = hn::Mul(r, hn::Sub(hn::Sub(g, mean_g), hn::Mul(xhat, slope)));
    store_some(a.accumulate ? hn::Add(load_some(a.dx + i, n), dx) : dx, a.dx + i, n);
    if (a.dweight != nullptr) store_some(hn::MulAdd(dy, xhat, load_some(a.dweight + i, n)), a.dweight + i, n);
    if (a.dbias != nullptr) store_some(hn::Add(load_some(a.dbias + i, n), dy), a.dbias + i, n);
  });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sepllm
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sepllm {
namespace {
HWY_EXPORT(NormBackwardRow);

// The number of rows whose parts of the weights' gradients one task adds up. It is fixed, so the sum does not
// depend on the number of threads.
constexpr int64_t kBlockRows = 64;

struct RowPlaces {
  const float *x, *dy;
  float* dx;
};

// to[i] += the sum over parts of part[p * n + i]
void add_parts(const float* parts, int64_t n_parts, int64_t n, float* to) {
  if (to == nullptr) return;
  for (int64_t p = 0; p < n_parts; ++p) {
    for (int64_t i = 0; i < n; ++i) to[i] += parts[p * n + i];
  }
}

// Of n_rows rows of n elements; where(r) says where row r of x, dy and dx lies.
template <typename Where>
void backward_rows(const Context& ctx, int64_t n_rows, int64_t n, const NormBackward& norm, bool accumulate,
                   const Where& where) {
  const Arena::Scope scope(ctx.arena);
  const int64_t n_blocks = (n_rows + kBlockRows - 1) / kBlockRows;
  float* weights = norm.dweight != nullptr ? ctx.arena.allocate<float>(n_blocks * n) : nullptr;
  float* biases = norm.dbias != nullptr ? ctx.arena.allocate<float>(n_blocks * n) : nullptr;
  parallel_blocks(ctx, n_rows, kBlockRows, n_rows * n * 4, [&](int64_t begin, int64_t end, int) {
    const auto part = [&](float* parts) -> float* {
      if (parts == nullptr) return nullptr;
      float* own = parts + begin / kBlockRows * n;
      std::fill_n(own, n, 0.0F);
      return own;
    };
    float *dweight = part(weights), *dbias = part(biases);
    for (int64_t r = begin; r < end; ++r) {
      const RowPlaces at = where(r);
      HWY_DYNAMIC_DISPATCH(NormBackwardRow)
      ({.n = n,
        .rms = norm.rms,
        .accumulate = accumulate,
        .eps = norm.eps,
        .x = at.x,
        .weight = norm.weight,
        .dy = at.dy,
        .dx = at.dx,
        .dweight = dweight,
        .dbias = dbias});
    }
  });
  add_parts(weights, n_blocks, n, norm.dweight);
  add_parts(biases, n_blocks, n, norm.dbias);
}

}  // namespace

void norm_backward(const Context& ctx, const Matrix& x, const NormBackward& norm, const Matrix& dy,
                   const Matrix& dx, bool accumulate) {
  SEPLLM_CHECK(x.n_rows == dy.n_rows && x.n_cols == dy.n_cols && x.n_rows == dx.n_rows &&
               x.n_cols == dx.n_cols);
  backward_rows(ctx, x.n_rows, x.n_cols, norm, accumulate, [&](int64_t r) {
    return RowPlaces{x.row(r), dy.row(r), dx.row(r)};
  });
}

void rms_norm_heads_backward(const Context& ctx, const Matrix& before, const NormBackward& norm,
                             const Heads& d, int64_t n_rows) {
  const int64_t n_heads = d.layout.n;
  SEPLLM_CHECK(norm.rms && before.n_rows == n_rows * n_heads && before.n_cols == d.layout.dim);
  backward_rows(ctx, before.n_rows, before.n_cols, norm, /*accumulate=*/false, [&](int64_t r) {
    float* at = d.at(r / n_heads, r % n_heads);
    return RowPlaces{before.row(r), at, at};
  });
}

}  // namespace sepllm
#endif  // HWY_ONCE
