// Measures several things in turns, so that a change of the machine's speed (neighbours, clock) meets all of
// them alike, and takes the median of each.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/function_ref.h"

namespace sepllm::bench {

// Calls `call` as often as `min_seconds` asks for and returns the mean seconds of one call. How often is
// found by the samples themselves: the first one is one call.
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

// Something that can be measured again and again, in seconds or any other unit.
struct Series {
  std::function<double()> sample;
  std::vector<double> values{};
};

// One sample of each in order, `rounds` times after a first round that is thrown away. Stops when `go_on`,
// asked before every sample, says no: false then, and the values are of no use.
bool measure_in_turns(std::span<Series> series, int64_t rounds, FunctionRef<bool()> go_on);

// Of at least one value; the mean of the two in the middle of an even number.
double median(std::vector<double> values);

}  // namespace sepllm::bench
