#include "kernels/cpu_features.h"

#include <gtest/gtest.h>

#include <string>

#include "kernels/kernel_test_support.h"

namespace sepllm {
namespace {

TEST(CpuFeatures, OnlyAllowedOnesAreSeen) {
  const unsigned has = cpu_features();
  allow_cpu_features(has & kVnni);
  EXPECT_EQ(cpu_features(), has & kVnni);
  allow_cpu_features(0);
  EXPECT_EQ(cpu_features(), 0U);
  allow_cpu_features(kAllCpuFeatures);
  EXPECT_EQ(cpu_features(), has);
}

TEST(CpuFeatures, TestsPassThroughEveryOne) {
  unsigned none = 0, all = 0;
  test::for_each_instruction_set([&] {
    none += cpu_features() == 0 ? 1 : 0;
    all |= cpu_features();
  });
  EXPECT_GE(none, 1U);
  EXPECT_EQ(all, cpu_features());
}

TEST(CpuFeatures, InstructionSetsNameOnlyWhatIsAllowed) {
  const unsigned has = cpu_features();
  EXPECT_EQ(instruction_sets().find(" VNNI") != std::string::npos, (has & kVnni) != 0);
  allow_cpu_features(0);
  const std::string plain = instruction_sets();
  EXPECT_FALSE(plain.empty());
  EXPECT_EQ(plain.find(' '), std::string::npos) << plain;
  allow_cpu_features(kAllCpuFeatures);
  EXPECT_TRUE(instruction_sets().starts_with(plain));
}

}  // namespace
}  // namespace sepllm
