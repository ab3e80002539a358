// Measures several things in turns, so that a change of the machine's speed (neighbours, clock) affects all
// of them in the same way, and takes the median of each.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "base/function_ref.h"

namespace sepllm::bench {

// Calls `call` as often as `min_seconds` requires and returns the mean seconds of one call. The samples
// themselves find out how often that is: the first sample is one call.
class TimedCall {
 public:
  TimedCall(std::function<void()> call, double min_seconds)
      : call_(std::move(call)), min_seconds_(min_seconds) {}
  double operator()();

 private:
  std::function<void()> call_;
  double min_seconds_;
  int64_t calls_ = 1;
};

// Something that can be measured repeatedly, in seconds or any other unit.
struct Series {
  std::function<double()> sample;
  std::vector<double> values{};
};

// Takes one sample of each in order, `rounds` times, after a first round that is discarded. `go_on` is asked
// before every sample; if it returns false, the measurement stops, the result is false, and the values must
// not be used.
bool measure_in_turns(std::span<Series> series, int64_t rounds, FunctionRef<bool()> go_on);

// The median of at least one value; for an even number, the mean of the two in the middle.
double median(std::vector<double> values);

}  // namespace sepllm::bench
