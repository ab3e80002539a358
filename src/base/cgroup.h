// How much CPU time and memory control groups (cgroups v1 and v2) leave this process: the limits of a
// container, which the machine's counts of cores and bytes do not show.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace sepllm {

struct GroupLimits {
  // CPU time per period, in CPUs (quota / period): the tightest quota between the process's group and the
  // root of what is mounted. Empty: no quota.
  std::optional<double> cpus;
  // Bytes that the group with the least room can still take: its limit minus what it uses. Cached pages of
  // files do not count as used, because the kernel drops them when it needs room. Empty: no limit.
  std::optional<int64_t> memory_room;       // before it is slowed down or swapped
  std::optional<int64_t> memory_hard_room;  // in RAM, before the kernel kills a process of the group
  std::optional<int64_t> swap_room;         // in swap, in addition
  // The groups that these limits belong to, so that one can tell which processes share them. Empty without
  // cgroups.
  std::string cpu_group, memory_group;
};

// Reads ROOT/proc/self/cgroup, ROOT/proc/self/mountinfo and the groups' files below the mount points (also
// below ROOT). Files that are missing or cannot be read set no limit. Source: cgroups(7), the kernel's
// Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst (cpu.cfs_quota_us, cpu.max, memory.limit_in_bytes,
// memory.memsw.limit_in_bytes, memory.max, memory.high and memory.swap.max).
GroupLimits read_group_limits(const std::string& root = "");

// The number of threads to use on `cores` cores under a quota: 1.5 CPUs are 1 thread, because a second thread
// would run for a part of each period and then stop, and every loop waits for its slowest thread. At least 1.
int threads_within(int cores, std::optional<double> quota);

}  // namespace sepllm
