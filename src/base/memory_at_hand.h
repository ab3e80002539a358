// How much memory this process can still get.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>

namespace sepllm {

// If the system does not tell, both are the largest number.
struct MemoryAtHand {
  // Bytes that can be had without swapping: what the machine has free or can free (pages of files), or what
  // the control groups of this process leave it (base/cgroup.h), whichever is less.
  int64_t bytes = std::numeric_limits<int64_t>::max();
  // Bytes including swap and everything that the kernel can drop. A process that takes more is killed. Never
  // less than `bytes`.
  int64_t most = std::numeric_limits<int64_t>::max();
};

// Reads ROOT/proc/meminfo, ROOT/proc/spl/kstat/zfs/arcstats and read_group_limits(ROOT). A file that is
// missing sets no limit.
MemoryAtHand read_memory_at_hand(const std::string& root);

// The same for this machine, unless the environment variable SEPLLM_MEMORY says how much there is: a number
// of bytes, or of KiB, MiB, GiB or TiB with K, M, G or T after it. Error (kInvalidArgument) for another
// value.
MemoryAtHand memory_at_hand();

// Parses such a number, "2048" or "100M"; nullopt for anything else.
std::optional<int64_t> parse_bytes(std::string text);

}  // namespace sepllm
