// Shared by the commands `sepllm bench ...`.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/options.h"

namespace sepllm {

// The largest number of tokens that a command accepts as a length.
constexpr int64_t kMaxBenchTokens = int64_t{1} << 24;

// At least one integer from min to max, separated by commas.
Option list_option(const char* name, std::vector<int64_t>* target, int64_t min, int64_t max,
                   const std::string& help);

// The current time, such as "2026-01-31T23:59:59Z".
std::string utc_now();

// Mean and standard deviation (of a sample; 0 for one value) of at least one value.
struct Spread {
  double mean, deviation;
};
Spread spread(const std::vector<double>& values);

}  // namespace sepllm
