#include "apps/shell/figures.h"

#include <fmt/format.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

namespace sepllm {

std::string human_bytes(int64_t bytes) {
  const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit < 4) {
    value /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, units[unit]);
}

std::string duration_text(double seconds) {
  if (!std::isfinite(seconds)) return "-";
  const auto whole = static_cast<int64_t>(std::llround(seconds));
  if (whole < 100) return seconds < 10 ? fmt::format("{:.1f} s", seconds) : fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min", whole / 3600, whole / 60 % 60);
}

std::string counted(double n) {
  if (!std::isfinite(n) || n <= 0) return "-";
  for (const auto& [size, unit] : {std::pair{1e9, "G"}, {1e6, "M"}, {1e4, "k"}}) {
    if (n >= size) return fmt::format("{:.3g} {}", n / (size == 1e4 ? 1e3 : size), unit);
  }
  return fmt::format("{:.0f}", n);
}

std::string kv_figures(const KvStats& kv) {
  const double share = kv.full_bytes > 0
                           ? 100.0 * static_cast<double>(kv.peak_bytes) / static_cast<double>(kv.full_bytes)
                           : 100.0;
  return fmt::format("keys: mean {:.1f}, peak {} | KV: {} at the peak, {:.0f} % of full", kv.mean_keys(),
                     kv.peak_keys, human_bytes(kv.peak_bytes), share);
}

}  // namespace sepllm
