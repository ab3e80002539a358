#include "checkpoint/nearest_name.h"

#include <algorithm>
#include <cstddef>
#include <numeric>

namespace sepllm {
namespace {

constexpr size_t kMaxNames = 20'000;
constexpr size_t kMaxLength = 256;

size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t replace = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replace, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

}  // namespace

std::string nearest_name(const std::string& wanted, const std::vector<std::string>& names) {
  if (wanted.size() > kMaxLength) return "";
  std::string best;
  size_t best_distance = static_cast<size_t>(-1);
  for (size_t i = 0; i < std::min(names.size(), kMaxNames); ++i) {
    if (names[i].size() > kMaxLength) continue;
    const size_t distance = edit_distance(wanted, names[i]);
    if (distance < best_distance) {
      best_distance = distance;
      best = names[i];
    }
  }
  return best;
}

}  // namespace sepllm
