// Shared by the kernel tests: contexts, random rows between guard words, a loop over instruction sets.
#pragma once

#include <gtest/gtest.h>
#include <hwy/highway.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "kernels/cpu_features.h"
#include "kernels/formats/element.h"
#include "tensor/context.h"
#include "tensor/matrix.h"

namespace sepllm::test {

// Calls fn() once for every instruction set of this machine for which the kernels are compiled.
template <typename Fn>
void for_each_target(const Fn& fn) {
  int n = 0;
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    SCOPED_TRACE(hwy::TargetName(target));
    hwy::SetSupportedTargetsForTest(target);
    fn();
    hwy::SetSupportedTargetsForTest(0);
    ++n;
  }
  EXPECT_GE(n, 1);
}

// The same for kernels that use instructions beyond Highway's targets: each target without these, then the
// best target with more and more of them.
template <typename Fn>
void for_each_instruction_set(const Fn& fn) {
  for_each_target([&] {
    allow_cpu_features(0);
    fn();
  });
  allow_cpu_features(kAllCpuFeatures);
  const unsigned has = cpu_features();
  unsigned allowed = 0;
  for (const CpuFeature feature : {kVnni, kBf16, kAmxInt8, kAmxBf16}) {
    if ((has & feature) == 0) continue;
    allowed |= feature;
    SCOPED_TRACE(testing::Message() << "CPU features " << allowed);
    allow_cpu_features(allowed);
    fn();
  }
  allow_cpu_features(kAllCpuFeatures);
}

struct Threads {
  explicit Threads(int n) : pool(n), context{pool, arena} {}
  ThreadPool pool;
  Arena arena;
  Context context;
};

// Rows of floats with `gap` elements between them, `shift` elements off alignment, everything outside the
// rows filled with a guard pattern.
class Rows {
 public:
  Rows(int64_t n_rows, int64_t n_cols, int64_t gap = 0, int64_t shift = 0)
      : values_(static_cast<size_t>(n_rows * (n_cols + gap) + shift + 16), kGuard),
        matrix_{values_.data() + shift + 8, n_rows, n_cols, n_cols + gap} {}
  Rows(const Rows& other) : values_(other.values_), matrix_(other.matrix_) {
    matrix_.data = values_.data() + (other.matrix_.data - other.values_.data());
  }
  Rows& operator=(const Rows&) = delete;

  const Matrix& matrix() const { return matrix_; }
  float& at(int64_t r, int64_t c) { return matrix_.row(r)[c]; }

  Rows& fill(uint32_t seed, float low = -1.0F, float high = 1.0F) {
    std::mt19937 rng(seed);
    std::uniform_real_distribution<float> value(low, high);
    for (int64_t r = 0; r < matrix_.n_rows; ++r) {
      for (int64_t c = 0; c < matrix_.n_cols; ++c) at(r, c) = value(rng);
    }
    return *this;
  }

  // The number of words outside the rows that have lost the guard pattern.
  int64_t damaged() const {
    int64_t n = 0;
    for (size_t i = 0; i < values_.size(); ++i) {
      const int64_t at = values_.data() + i - matrix_.data;
      const bool inside =
          at >= 0 && at / matrix_.stride < matrix_.n_rows && at % matrix_.stride < matrix_.n_cols;
      n += !inside && values_[i] != kGuard ? 1 : 0;
    }
    return n;
  }

  // Bit for bit, including gaps.
  bool same_bits(const Rows& other) const {
    if (values_.size() != other.values_.size()) return false;
    for (size_t i = 0; i < values_.size(); ++i) {
      if (std::bit_cast<uint32_t>(values_[i]) != std::bit_cast<uint32_t>(other.values_[i])) return false;
    }
    return true;
  }

  static constexpr float kGuard = -12345.5F;

 private:
  std::vector<float> values_;
  Matrix matrix_;
};

// Infinite if there is a NaN.
inline double max_difference(const Matrix& a, const Matrix& b) {
  double worst = 0;
  for (int64_t r = 0; r < a.n_rows; ++r) {
    for (int64_t c = 0; c < a.n_cols; ++c) {
      const double d = std::abs(static_cast<double>(a.row(r)[c]) - b.row(r)[c]);
      if (std::isnan(d)) return std::numeric_limits<double>::infinity();
      worst = std::max(worst, d);
    }
  }
  return worst;
}

// n random values in [-1, 1] stored as `type`; for int8 in [-127, 127].
inline std::vector<char> random_stored(DType type, int64_t n, uint32_t seed) {
  std::mt19937 rng(seed);
  std::uniform_real_distribution<float> value(-1.0F, 1.0F);
  std::vector<char> bytes(static_cast<size_t>(n * dtype_size(type)));
  const float most = type == DType::kI8 ? 127.0F : 1.0F;
  for (int64_t i = 0; i < n; ++i) store_element(type, bytes.data(), i, most * value(rng));
  return bytes;
}

inline constexpr DType kAllTypes[] = {DType::kF32, DType::kF16, DType::kBF16};

}  // namespace sepllm::test
