// Detects steps whose gradient is much larger than those before: a bad batch, or numbers that overflowed.
#pragma once

#include <cmath>
#include <cstdint>

#include "base/json.h"

namespace sepllm {

// A moving mean and deviation of the logarithm of the gradient's norm; the logarithm, because runs differ in
// scale.
class SpikeGuard {
 public:
  // z: the threshold, in deviations above the mean; 0: only values that are not finite are refused.
  explicit SpikeGuard(double z) : z_(z) {}

  // Whether a step with this loss and norm may be taken; if so, it enters the statistics. If many steps in a
  // row stand out, they are not a spike but the new normal state of the run, and the statistics start again
  // from there.
  bool accept(double loss, double norm) {
    if (!std::isfinite(loss) || !std::isfinite(norm)) {
      ++not_finite_;
      return false;
    }
    not_finite_ = 0;
    const double x = std::log(norm + 1e-30);
    if (z_ > 0 && n_ >= kFirst && x - mean_ > z_ * std::sqrt(variance_ + kLeast * kLeast)) {
      if (++spikes_ <= kMostInARow) return false;
      n_ = 0;
      mean_ = variance_ = 0;
    }
    spikes_ = 0;
    ++n_;
    const double distance = x - mean_;
    const double share = n_ < 1 / kShare ? 1.0 / static_cast<double>(n_) : kShare;
    mean_ += share * distance;
    variance_ = (1 - share) * (variance_ + share * distance * distance);
    return true;
  }

  // The number of steps in a row, up to now, whose loss or gradient was not a number.
  int64_t not_finite_in_a_row() const { return not_finite_; }

  Json state() const {
    return {{"n", n_},
            {"mean", mean_},
            {"variance", variance_},
            {"spikes", spikes_},
            {"not_finite", not_finite_}};
  }
  void set_state(const JsonObject& state) {
    n_ = state.integer("n", 0, INT64_MAX);
    mean_ = state.number("mean");
    variance_ = state.number("variance");
    spikes_ = state.integer_or("spikes", 0, 0, INT64_MAX);
    not_finite_ = state.integer_or("not_finite", 0, 0, INT64_MAX);
  }

 private:
  static constexpr int64_t kFirst = 30;   // steps at the beginning that only enter the statistics
  static constexpr double kShare = 0.02;  // the weight of a new value in the mean
  static constexpr double kLeast = 0.05;  // a deviation that is always normal: 5 %
  static constexpr int64_t kMostInARow = 10;

  double z_;
  int64_t n_ = 0, spikes_ = 0, not_finite_ = 0;
  double mean_ = 0, variance_ = 0;
};

}  // namespace sepllm
