// What control groups (cgroups v1 and v2) leave this process of CPU time and memory: a container's limits,
// which the counts of cores and bytes of the machine do not show.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace sepllm {

struct GroupLimits {
  // CPUs' worth of time in each period (quota / period), the tightest on the way from the process's group up
  // to the root of what is mounted; none: no quota.
  std::optional<double> cpus;
  // Bytes that the group with the least room can still take: its limit less what it uses, not counting cached
  // pages of files, which the kernel drops when it needs the room. None: no limit.
  std::optional<int64_t> memory_room;       // before it is slowed down or swapped
  std::optional<int64_t> memory_hard_room;  // in RAM, before the kernel ends a process of the group
  std::optional<int64_t> swap_room;         // in swap, on top of it
  // The groups that these limits belong to, to tell which processes share them: empty where there is no
  // cgroup.
  std::string cpu_group, memory_group;
};

// Reads ROOT/proc/self/cgroup, ROOT/proc/self/mountinfo and the groups' files below the mount points (also
// below ROOT). What is missing or cannot be read sets no limit. Source: cgroups(7), the kernel's
// Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst (cpu.cfs_quota_us, cpu.max, memory.limit_in_bytes,
// memory.memsw.limit_in_bytes, memory.max, memory.high and memory.swap.max).
GroupLimits read_group_limits(const std::string& root = "");

// Threads that make use of `cores` cores under a quota: 1.5 CPUs are 1 thread. A second one would run for a
// part of each period and then stand still, and every loop waits for its slowest thread. At least 1.
int threads_within(int cores, std::optional<double> quota);

}  // namespace sepllm
