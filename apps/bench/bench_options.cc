#include "apps/bench/bench_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <ctime>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"

namespace sepllm {
namespace {

std::vector<int64_t> parse_list(const std::string& name, const std::string& text, int64_t min, int64_t max) {
  std::vector<int64_t> out;
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find(',', at), text.size());
    const auto value = parse_integer(std::string_view(text).substr(at, end - at));
    if (!value || *value < min || *value > max) {
      refuse_value(name, fmt::format("integers from {} to {} with commas between", min, max), text);
    }
    out.push_back(*value);
    at = end + 1;
  }
  return out;
}

}  // namespace

Option list_option(const char* name, std::vector<int64_t>* target, int64_t min, int64_t max,
                   const std::string& help) {
  Option option;
  option.name = name;
  option.value_name = "N,...";
  option.help = help;
  option.set = [=](const std::string& text) { *target = parse_list(name, text, min, max); };
  option.get = [=] { return Json(fmt::format("{}", fmt::join(*target, ","))); };
  return option;
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  char text[32];
  return {text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts)};
}

Spread spread(const std::vector<double>& values) {
  SEPLLM_CHECK(!values.empty());
  const auto n = static_cast<double>(values.size());
  double sum = 0, squares = 0;
  for (const double v : values) sum += v;
  for (const double v : values) squares += (v - sum / n) * (v - sum / n);
  return {sum / n, values.size() == 1 ? 0.0 : std::sqrt(squares / (n - 1))};
}

}  // namespace sepllm
