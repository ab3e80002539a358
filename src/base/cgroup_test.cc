#include "base/cgroup.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <optional>
#include <string>

#include "base/thread_pool.h"
#include "tests/support/support.h"

namespace sepllm {
namespace {

// A file tree as the kernel shows it, with lines from real machines (Debian with v1, Ubuntu with v2, Docker).
class Groups : public ::testing::Test {
 protected:
  void write(const std::string& path, const std::string& content) const {
    std::filesystem::create_directories(std::filesystem::path(root() + path).parent_path());
    std::ofstream(root() + path) << content;
  }
  void proc(const std::string& cgroup, const std::string& mountinfo) const {
    write("/proc/self/cgroup", cgroup);
    write("/proc/self/mountinfo", mountinfo);
  }
  std::string root() const { return folder_.path(); }
  GroupLimits limits() const { return read_group_limits(root()); }

  static constexpr const char* kMountV1 =
      "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n"
      "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
      "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:12 - cgroup cgroup rw,cpu,cpuacct\n"
      "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
      "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
  static constexpr const char* kMountV2 =
      "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n"
      "34 25 0:29 / /sys/fs/cgroup rw,nosuid,nodev shared:4 master:9 - cgroup2 cgroup2 rw,nsdelegate\n";

 private:
  test::TemporaryFolder folder_;
};

TEST_F(Groups, NothingThereIsNoLimit) {
  EXPECT_FALSE(limits().cpus);
  EXPECT_FALSE(limits().memory_room);
  proc("", "");
  EXPECT_FALSE(limits().cpus);
  proc("0::/a\n", kMountV2);  // the mounted folders are not there
  EXPECT_FALSE(limits().cpus);
  EXPECT_FALSE(limits().memory_room);
  proc("garbage\n:::\n1:\n", "a b c\n - \n1 2 3 4 5 6 - cgroup2\n");
  EXPECT_FALSE(limits().cpus);
}

TEST_F(Groups, TheQuotaOfVersion2) {
  proc("0::/user.slice/a.scope\n", kMountV2);
  const std::string group = "/sys/fs/cgroup/user.slice/a.scope/";
  write(group + "cpu.max", "400000 100000\n");
  EXPECT_EQ(limits().cpus, 4.0);
  write(group + "cpu.max", "150000 100000\n");
  EXPECT_EQ(limits().cpus, 1.5);
  write(group + "cpu.max", "50000\n");  // the period's default
  EXPECT_EQ(limits().cpus, 0.5);
  for (const char* none : {"max 100000\n", "max\n", "", "0 100000\n", "1000 0\n", "-5 100000\n", "x y\n"}) {
    write(group + "cpu.max", none);
    EXPECT_FALSE(limits().cpus) << none;
  }
}

TEST_F(Groups, TheQuotaOfVersion1) {
  proc("9:name=systemd:/\n4:memory:/x\n1:cpuacct,cpu:/t\n0::/\n", kMountV1);
  const std::string group = "/sys/fs/cgroup/cpu,cpuacct/t/";
  write(group + "cpu.cfs_period_us", "100000\n");
  EXPECT_FALSE(limits().cpus);
  write(group + "cpu.cfs_quota_us", "-1\n");
  EXPECT_FALSE(limits().cpus);
  write(group + "cpu.cfs_quota_us", "200000\n");
  EXPECT_EQ(limits().cpus, 2.0);
  write(group + "cpu.cfs_period_us", "50000\n");
  EXPECT_EQ(limits().cpus, 4.0);
}

TEST_F(Groups, OfNestedGroupsTheTightestHolds) {
  proc("0::/a/b/c\n", kMountV2);
  const std::string top = "/sys/fs/cgroup/";
  write(top + "a/b/c/cpu.max", "max 100000\n");
  write(top + "a/b/cpu.max", "300000 100000\n");
  write(top + "a/cpu.max", "800000 100000\n");
  EXPECT_EQ(limits().cpus, 3.0);
  write(top + "a/cpu.max", "100000 100000\n");
  EXPECT_EQ(limits().cpus, 1.0);
  write(top + "a/b/c/cpu.max", "50000 100000\n");
  EXPECT_EQ(limits().cpus, 0.5);
  write(top + "a/b/c/d/cpu.max", "10000 100000\n");  // not between the group and the root
  EXPECT_EQ(limits().cpus, 0.5);
}

TEST_F(Groups, BothVersionsMountedTheTighterHolds) {
  proc("1:cpu,cpuacct:/t\n0::/u\n", kMountV1);
  write("/sys/fs/cgroup/cpu,cpuacct/t/cpu.cfs_quota_us", "300000");
  write("/sys/fs/cgroup/cpu,cpuacct/t/cpu.cfs_period_us", "100000");
  EXPECT_EQ(limits().cpus, 3.0);
  write("/sys/fs/cgroup/unified/u/cpu.max", "200000 100000");
  EXPECT_EQ(limits().cpus, 2.0);
}

// In a container without a namespace of groups, /proc/self/cgroup has the host's path, but only the
// container's own group is mounted.
TEST_F(Groups, AContainerSeesItsGroupAtTheMountPoint) {
  proc("1:cpu,cpuacct:/docker/0a1b\n",
       "700 690 0:29 /docker/0a1b /sys/fs/cgroup/cpu,cpuacct ro,nosuid - cgroup cgroup rw,cpu,cpuacct\n");
  write("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  write("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "250000\n");
  EXPECT_EQ(limits().cpus, 2.5);
  // One group was created in the container; another one only has a name that begins like the container's.
  proc("1:cpu,cpuacct:/docker/0a1b/own\n",
       "700 690 0:29 /docker/0a1b /sys/fs/cgroup/cpu,cpuacct ro,nosuid - cgroup cgroup rw,cpu,cpuacct\n");
  write("/sys/fs/cgroup/cpu,cpuacct/own/cpu.cfs_period_us", "100000\n");
  write("/sys/fs/cgroup/cpu,cpuacct/own/cpu.cfs_quota_us", "120000\n");
  EXPECT_EQ(limits().cpus, 1.2);
  proc("1:cpu,cpuacct:/docker/0a1bown\n",
       "700 690 0:29 /docker/0a1b /sys/fs/cgroup/cpu,cpuacct ro,nosuid - cgroup cgroup rw,cpu,cpuacct\n");
  EXPECT_EQ(limits().cpus, 2.5);
  // This process was moved out of its namespace's root.
  proc("0::/../other\n", kMountV2);
  write("/sys/fs/cgroup/cpu.max", "700000 100000\n");
  write("/sys/fs/other/cpu.max", "100000 100000\n");
  EXPECT_EQ(limits().cpus, 7.0);
}

TEST_F(Groups, MountPointsWithBlanks) {
  proc("0::/\n", "34 25 0:29 / /mnt/c\\040groups rw - cgroup2 none rw\n");
  write("/mnt/c groups/cpu.max", "100000 100000\n");
  EXPECT_EQ(limits().cpus, 1.0);
}

TEST_F(Groups, TheRoomOfMemoryOfVersion2) {
  proc("0::/a/b\n", kMountV2);
  const std::string top = "/sys/fs/cgroup/";
  write(top + "a/b/memory.max", "max\n");
  write(top + "a/b/memory.current", "5000\n");
  EXPECT_FALSE(limits().memory_room);
  write(top + "a/memory.max", "1000000\n");
  write(top + "a/memory.current", "400000\n");
  EXPECT_EQ(limits().memory_room, 600000);
  // The kernel drops pages of files when it needs room, so they do not count.
  write(top + "a/memory.stat", "anon 1000\nfile 300000\nactive_file 100000\ninactive_file 200000\n");
  EXPECT_EQ(limits().memory_room, 900000);
  write(top + "a/b/memory.max", "7000\n");
  EXPECT_EQ(limits().memory_room, 2000);
  write(top + "a/b/memory.high", "5500\n");
  EXPECT_EQ(limits().memory_room, 500);
  write(top + "a/b/memory.high", "100\n");
  EXPECT_EQ(limits().memory_room, 0);
  EXPECT_EQ(limits().memory_hard_room, 2000) << "slow, but not the end";
}

TEST_F(Groups, TheRoomOfSwapOfVersion2) {
  proc("0::/a/b\n", kMountV2);
  const std::string top = "/sys/fs/cgroup/";
  write(top + "a/b/memory.swap.max", "max\n");
  EXPECT_FALSE(limits().swap_room);
  write(top + "a/memory.swap.max", "9000\n");
  EXPECT_EQ(limits().swap_room, 9000);
  write(top + "a/memory.swap.current", "2000\n");
  EXPECT_EQ(limits().swap_room, 7000);
  write(top + "a/b/memory.swap.max", "0\n");
  EXPECT_EQ(limits().swap_room, 0);
  EXPECT_FALSE(limits().memory_hard_room);
}

TEST_F(Groups, TheRoomOfMemoryOfVersion1) {
  proc("4:memory:/x/y\n", kMountV1);
  const std::string top = "/sys/fs/cgroup/memory/";
  write(top + "x/y/memory.limit_in_bytes", "9223372036854771712\n");
  write(top + "x/y/memory.usage_in_bytes", "5000\n");
  EXPECT_FALSE(limits().memory_room);
  write(top + "x/memory.limit_in_bytes", "1000000\n");
  write(top + "x/memory.usage_in_bytes", "700000\n");
  write(top + "x/memory.stat", "active_file 9\ntotal_active_file 100000\ntotal_inactive_file 50000\n");
  EXPECT_EQ(limits().memory_room, 450000);
  EXPECT_EQ(limits().memory_hard_room, 450000);
  EXPECT_FALSE(limits().swap_room);
  // Version 1 limits the sum of memory and swap; 100000 bytes of it are swapped already.
  write(top + "x/memory.memsw.limit_in_bytes", "1500000\n");
  write(top + "x/memory.memsw.usage_in_bytes", "800000\n");
  EXPECT_EQ(limits().swap_room, 400000);
  write(top + "x/memory.memsw.limit_in_bytes", "1000000\n");
  EXPECT_EQ(limits().swap_room, 0);
}

TEST_F(Groups, WhoSharesAQuotaHasTheSameGroup) {
  proc("1:cpu,cpuacct:/t\n0::/u\n", kMountV1);
  const std::string one = limits().cpu_group;
  proc("1:cpu,cpuacct:/s\n0::/u\n", kMountV1);
  EXPECT_NE(limits().cpu_group, one);
  proc("7:memory:/elsewhere\n1:cpu,cpuacct:/t\n0::/u\n", kMountV1);
  EXPECT_EQ(limits().cpu_group, one);
}

TEST_F(Groups, WhoSharesALimitOfMemoryHasTheSameGroup) {
  proc("4:memory:/t\n1:cpu,cpuacct:/t\n0::/u\n", kMountV1);
  const std::string one = limits().memory_group;
  EXPECT_FALSE(one.empty());
  proc("4:memory:/t\n1:cpu,cpuacct:/s\n0::/u\n", kMountV1);
  EXPECT_EQ(limits().memory_group, one);
  proc("4:memory:/s\n1:cpu,cpuacct:/s\n0::/u\n", kMountV1);
  EXPECT_NE(limits().memory_group, one);
}

TEST(ThreadsOfAQuota, WholeCpusAreUsed) {
  EXPECT_EQ(threads_within(8, std::nullopt), 8);
  EXPECT_EQ(threads_within(8, 4.0), 4);
  EXPECT_EQ(threads_within(8, 1.5), 1);
  EXPECT_EQ(threads_within(8, 2.999), 3) << "a quota of 3 CPUs in a period that does not divide";
  EXPECT_EQ(threads_within(8, 0.1), 1);
  EXPECT_EQ(threads_within(2, 64.0), 2);
  EXPECT_EQ(threads_within(0, 1e300), 1);
}

TEST(ThreadsOfAQuota, ThisProcess) {
  EXPECT_EQ(ThreadPool::default_size(),
            threads_within(ThreadPool::affinity_size(), read_group_limits().cpus));
}

}  // namespace
}  // namespace sepllm
