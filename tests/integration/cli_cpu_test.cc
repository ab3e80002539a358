// Which kernels OpenBLAS has in the program: `sepllm inspect cpu`.
#include "tests/support/cli.h"
#include "tests/support/shell_run.h"

namespace sepllm::test {
namespace {

class CliCpu : public ::testing::Test {
 protected:
  Json inspect(const std::string& before) {
    const int exit_code = shell_.run(before, {"inspect", "cpu", "--json"});
    EXPECT_EQ(exit_code, 0) << shell_.err();
    return exit_code == 0 ? Json::parse(shell_.out()) : Json();
  }

  TemporaryFolder folder_;
  ShellRun shell_{folder_.path()};
};

TEST_F(CliCpu, KernelsThatTheUserNamesAreKept) {
  EXPECT_EQ(inspect("unset SEPLLM_CPU; OPENBLAS_CORETYPE=Haswell")["openblas"], "Haswell");
}

TEST_F(CliCpu, ALimitIsOneForOpenBlasToo) {
  const Json all = inspect("unset OPENBLAS_CORETYPE; SEPLLM_CPU=avx2");
  EXPECT_EQ(all["openblas"], "Haswell");
  EXPECT_EQ(all["limit"], "avx2");
  EXPECT_EQ(all["instruction_sets"], "AVX2");
}

TEST_F(CliCpu, AnUnknownLimitIsRefused) {
  EXPECT_EQ(shell_.run("SEPLLM_CPU=avx3", {"inspect", "cpu"}), 1);
  EXPECT_NE(shell_.err().find("SEPLLM_CPU"), std::string::npos) << shell_.err();
}

}  // namespace
}  // namespace sepllm::test
