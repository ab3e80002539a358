#include "base/memory_at_hand.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/build_info.h"
#include "base/cgroup.h"
#include "base/error.h"
#include "base/options.h"

namespace sepllm {
namespace {

constexpr const char* kVariable = "SEPLLM_MEMORY";

// The bytes in a line "KEY: NUMBER kB" of meminfo.
std::optional<int64_t> meminfo_bytes(const std::string& root, const char* key) {
  const std::string text = system_value(root + "/proc/meminfo", key);
  const auto kib = parse_integer(text.substr(0, text.find(' ')));
  return kib ? std::optional(*kib * 1024) : std::nullopt;
}

// The bytes that ZFS would give back from its own cache, which MemAvailable does not count. Lines are "NAME
// TYPE NUMBER".
int64_t zfs_cache_to_spare(const std::string& path) {
  std::ifstream file(path);
  std::string line, name;
  for (int k = 0; k < 2; ++k) std::getline(file, line);  // skip the headings
  std::map<std::string, int64_t> values;
  for (int64_t type = 0, value = 0; file >> name >> type >> value;) values[name] = value;
  return std::max<int64_t>(0, values["size"] - values["c_min"]);
}

}  // namespace

std::optional<int64_t> parse_bytes(std::string text) {
  constexpr std::string_view kUnits = "KMGT";
  const size_t unit = text.empty() ? std::string_view::npos : kUnits.find(text.back());
  if (unit != std::string_view::npos) text.pop_back();
  const int shift = unit == std::string_view::npos ? 0 : 10 * (static_cast<int>(unit) + 1);
  const std::optional<int64_t> number = parse_integer(text);
  if (!number || *number < 0 || *number > std::numeric_limits<int64_t>::max() >> shift) return std::nullopt;
  return *number << shift;
}

MemoryAtHand read_memory_at_hand(const std::string& root) {
  MemoryAtHand at_hand;
  const auto bytes_of = [&](const char* key) { return meminfo_bytes(root, key).value_or(0); };
  int64_t ram = at_hand.most;
  if (const auto available = meminfo_bytes(root, "MemAvailable")) {
    const int64_t zfs = zfs_cache_to_spare(root + "/proc/spl/kstat/zfs/arcstats");
    at_hand.bytes = *available + zfs;
    // MemAvailable keeps a reserve that the kernel uses only in need.
    const int64_t droppable =
        bytes_of("Active(file)") + bytes_of("Inactive(file)") + bytes_of("SReclaimable");
    ram = std::max(at_hand.bytes, bytes_of("MemFree") + droppable + zfs);
  }
  const GroupLimits group = read_group_limits(root);
  if (group.memory_room) at_hand.bytes = std::min(at_hand.bytes, *group.memory_room);
  if (group.memory_hard_room) ram = std::min(ram, *group.memory_hard_room);
  int64_t swap = meminfo_bytes(root, "SwapFree").value_or(at_hand.most);
  if (group.swap_room) swap = std::min(swap, *group.swap_room);
  at_hand.most = ram > at_hand.most - swap ? at_hand.most : ram + swap;
  return at_hand;
}

MemoryAtHand memory_at_hand() {
  const char* stated = std::getenv(kVariable);
  if (stated == nullptr || *stated == '\0') return read_memory_at_hand("");
  const std::optional<int64_t> bytes = parse_bytes(stated);
  if (bytes) return {.bytes = *bytes, .most = *bytes};
  throw Error(ErrorCode::kInvalidArgument, std::string("wrong value of ") + kVariable,
              {.expected = "bytes, or a whole number with K, M, G or T after it", .got = stated});
}

}  // namespace sepllm
