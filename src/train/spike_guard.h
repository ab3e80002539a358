// Steps whose gradient stands out of those before: a bad batch, or numbers that overflowed.
#pragma once

#include <cmath>
#include <cstdint>

#include "base/json.h"

namespace sepllm {

// A moving mean and deviation of the logarithm of the gradient's norm, which scales of a run differ in.
class SpikeGuard {
 public:
  // z: deviations above the mean; 0: only what is not a finite number is refused.
  explicit SpikeGuard(double z) : z_(z) {}

  // Whether a step with this loss and norm may be taken; if so, it counts for the later ones. Where many
  // steps in a row stand out, they are no spike but how the run is now: it is learnt anew from there.
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

  // Steps up to now, in a row, whose loss or gradient was not a number.
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
  static constexpr int64_t kFirst = 30;   // steps that are only counted
  static constexpr double kShare = 0.02;  // of a new value in the mean
  static constexpr double kLeast = 0.05;  // a deviation that is always normal: 5 %
  static constexpr int64_t kMostInARow = 10;

  double z_;
  int64_t n_ = 0, spikes_ = 0, not_finite_ = 0;
  double mean_ = 0, variance_ = 0;
};

}  // namespace sepllm
