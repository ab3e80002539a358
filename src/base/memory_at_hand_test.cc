#include "base/memory_at_hand.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>

#include "base/error.h"
#include "tests/support/expect_error.h"
#include "tests/support/support.h"

namespace sepllm {
namespace {

void write(const test::TemporaryFolder& root, const std::string& path, const std::string& content) {
  std::filesystem::create_directories(std::filesystem::path(root.file(path)).parent_path());
  std::ofstream(root.file(path)) << content;
}

// The lines of a machine with 24 GiB.
constexpr const char* kMemInfo =
    "MemTotal:       24684100 kB\nMemFree:        18889960 kB\nMemAvailable:   22304284 kB\n"
    "Buffers:           92160 kB\nActive(file):    1500000 kB\nInactive(file):  2000000 kB\n"
    "SReclaimable:     150000 kB\nHugePages_Total:       0\nSwapTotal:       2097148 kB\n"
    "SwapFree:        1048576 kB\n";

TEST(MemoryAtHand, OfAMachine) {
  const test::TemporaryFolder root;
  EXPECT_EQ(read_memory_at_hand(root.path()).bytes, INT64_MAX) << "nothing is known";
  EXPECT_EQ(read_memory_at_hand(root.path()).most, INT64_MAX);
  write(root, "proc/meminfo", "MemTotal:       24684100 kB\nSwapFree:        1048576 kB\n");  // before 3.14
  EXPECT_EQ(read_memory_at_hand(root.path()).bytes, INT64_MAX);
  EXPECT_EQ(read_memory_at_hand(root.path()).most, INT64_MAX);
  write(root, "proc/meminfo", kMemInfo);
  EXPECT_EQ(read_memory_at_hand(root.path()).bytes, int64_t{22304284} * 1024);
  // Includes the pages of files that MemAvailable keeps as a reserve.
  EXPECT_EQ(read_memory_at_hand(root.path()).most,
            int64_t{18889960 + 1500000 + 2000000 + 150000 + 1048576} * 1024);
}

TEST(MemoryAtHand, TheCacheOfZfsIsGivenBack) {
  const test::TemporaryFolder root;
  write(root, "proc/meminfo", kMemInfo);
  write(root, "proc/spl/kstat/zfs/arcstats",
        "13 1 0x01 96 26112 6018426312 2003846171\nname                            type data\n"
        "hits                            4    100\nc_min                           4    1000\n"
        "size                            4    5000\n");
  EXPECT_EQ(read_memory_at_hand(root.path()).bytes, int64_t{22304284} * 1024 + 4000);
}

TEST(MemoryAtHand, GroupsLeaveLess) {
  const test::TemporaryFolder root;
  write(root, "proc/meminfo", kMemInfo);
  write(root, "proc/self/cgroup", "0::/\n");
  write(root, "proc/self/mountinfo", "34 25 0:29 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
  write(root, "sys/fs/cgroup/memory.max", "1000000\n");
  write(root, "sys/fs/cgroup/memory.current", "100000\n");
  EXPECT_EQ(read_memory_at_hand(root.path()).bytes, 900000);
  EXPECT_EQ(read_memory_at_hand(root.path()).most, 900000 + (int64_t{1} << 30)) << "the machine's swap";
  write(root, "sys/fs/cgroup/memory.swap.max", "50000\n");
  write(root, "sys/fs/cgroup/memory.high", "300000\n");
  EXPECT_EQ(read_memory_at_hand(root.path()).bytes, 200000);
  EXPECT_EQ(read_memory_at_hand(root.path()).most, 950000);
  write(root, "sys/fs/cgroup/memory.high", "max\n");
  write(root, "sys/fs/cgroup/memory.max", "99999999999999\n");
  EXPECT_EQ(read_memory_at_hand(root.path()).bytes, int64_t{22304284} * 1024) << "more than there is";
}

// A container may hide some files of /proc and /sys, or all.
TEST(MemoryAtHand, AGroupWithoutAMachine) {
  const test::TemporaryFolder root;
  write(root, "proc/self/cgroup", "0::/\n");
  write(root, "proc/self/mountinfo", "34 25 0:29 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
  write(root, "sys/fs/cgroup/memory.max", "1000000\n");
  EXPECT_EQ(read_memory_at_hand(root.path()).bytes, 1000000);
  EXPECT_EQ(read_memory_at_hand(root.path()).most, INT64_MAX) << "there may be swap";
  write(root, "sys/fs/cgroup/memory.swap.max", "0\n");
  EXPECT_EQ(read_memory_at_hand(root.path()).most, 1000000);
}

class StatedMemory : public ::testing::Test {
 protected:
  ~StatedMemory() override { ::unsetenv("SEPLLM_MEMORY"); }
  static MemoryAtHand stated(const char* text) {
    ::setenv("SEPLLM_MEMORY", text, 1);
    return memory_at_hand();
  }
};

TEST_F(StatedMemory, CountsInPlaceOfTheSystems) {
  EXPECT_EQ(stated("2048").bytes, 2048);
  EXPECT_EQ(stated("3K").bytes, 3 << 10);
  EXPECT_EQ(stated("100M").most, 100 << 20);
  EXPECT_EQ(stated("8G").bytes, int64_t{8} << 30);
  EXPECT_EQ(stated("2T").bytes, int64_t{2} << 40);
  for (const char* wrong : {"lots", "-1", "1.5G", "G", "10000000000T", "1 G"})
    test::expect_error([&] { stated(wrong); }, ErrorCode::kInvalidArgument, {"SEPLLM_MEMORY", wrong});
}

TEST_F(StatedMemory, EmptyOrUnsetIsThisMachines) {
  EXPECT_GT(stated("").bytes, 1 << 20);
  ::unsetenv("SEPLLM_MEMORY");
  EXPECT_GT(memory_at_hand().bytes, 1 << 20);
  EXPECT_GE(memory_at_hand().most, memory_at_hand().bytes);
}

}  // namespace
}  // namespace sepllm
