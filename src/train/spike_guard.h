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

  // Whether a step with this loss and norm may be taken; if so, it counts for the later ones.
  bool accept(double loss, double norm) {
    if (!std::isfinite(loss) || !std::isfinite(norm)) return false;
    const double x = std::log(norm + 1e-30), distance = x - mean_;
    if (z_ > 0 && n_ >= kFirst && distance > z_ * std::sqrt(variance_ + kLeast * kLeast)) return false;
    ++n_;
    const double share = n_ < 1 / kShare ? 1.0 / static_cast<double>(n_) : kShare;
    mean_ += share * distance;
    variance_ = (1 - share) * (variance_ + share * distance * distance);
    return true;
  }

  Json state() const { return {{"n", n_}, {"mean", mean_}, {"variance", variance_}}; }
  void set_state(const Json& state) {
    n_ = state.at("n").get<int64_t>();
    mean_ = state.at("mean").get<double>();
    variance_ = state.at("variance").get<double>();
  }

 private:
  static constexpr int64_t kFirst = 30;   // steps that are only counted
  static constexpr double kShare = 0.02;  // of a new value in the mean
  static constexpr double kLeast = 0.05;  // a deviation that is always normal: 5 %

  double z_;
  int64_t n_ = 0;
  double mean_ = 0, variance_ = 0;
};

}  // namespace sepllm
