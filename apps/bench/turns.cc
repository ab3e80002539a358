#include "apps/bench/turns.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/check.h"

namespace sepllm::bench {

double TimedCall::operator()() {
  constexpr double kMostCalls = 100000;
  const auto start = std::chrono::steady_clock::now();
  for (int64_t i = 0; i < calls_; ++i) call_();
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const double one = seconds / static_cast<double>(calls_);
  const double needed = one > 0 ? std::min(std::ceil(min_seconds_ / one), kMostCalls) : kMostCalls;
  calls_ = std::max(calls_, static_cast<int64_t>(needed));
  return one;
}

bool measure_in_turns(std::span<Series> series, int64_t rounds, FunctionRef<bool()> go_on) {
  for (int64_t round = 0; round <= rounds; ++round) {
    for (Series& s : series) {
      if (!go_on()) return false;
      const double value = s.sample();
      if (round > 0) s.values.push_back(value);
    }
  }
  return true;
}

double median(std::vector<double> values) {
  SEPLLM_CHECK(!values.empty());
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

}  // namespace sepllm::bench
