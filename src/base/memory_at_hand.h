// How much memory this process can still have.
#pragma once

#include <cstdint>
#include <limits>
#include <string>

namespace sepllm {

// As much as can be said where the system says nothing.
struct MemoryAtHand {
  // Bytes that can be had without swapping: what the machine has free or can free (pages of files), and what
  // the control groups of this process leave it (base/cgroup.h), whichever is less.
  int64_t bytes = std::numeric_limits<int64_t>::max();
  // Bytes with swap, and with what the kernel keeps in reserve: beyond it, it ends a process. Never less.
  int64_t most = std::numeric_limits<int64_t>::max();
};

// From ROOT/proc/meminfo, ROOT/proc/spl/kstat/zfs/arcstats and read_group_limits(ROOT). A file that is not
// there limits nothing.
MemoryAtHand read_memory_at_hand(const std::string& root);

// The same of this machine, unless the environment variable SEPLLM_MEMORY says how much there is: a number of
// bytes, or of KiB, MiB, GiB or TiB with K, M, G or T behind it. Error (kInvalidArgument) for another value.
MemoryAtHand memory_at_hand();

}  // namespace sepllm
