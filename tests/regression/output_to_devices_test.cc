// `--nll-out /dev/null` once renamed a finished file over the device, and destroyed it for the whole machine
// where the user was root. (A pipe stands for the device here: a test that fails must not do the same.)
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "base/error.h"
#include "base/file.h"
#include "tests/support/cli.h"
#include "tests/support/expect_error.h"

namespace sepllm::test {
namespace {

class OutputToDevices : public RandomModelTest {};

TEST_F(OutputToDevices, APipeIsWrittenAndStays) {
  const std::string pipe = file("pipe");
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  // Open for both, so that neither side waits: a few lines fit into the pipe.
  const int reader = ::open(pipe.c_str(), O_RDWR | O_NONBLOCK);
  ASSERT_GE(reader, 0);
  const Json result =
      run_json(with_model("score", {"--text", write("t.txt", "Hello, world."), "--nll-out", pipe}));
  std::string lines(4096, '\0');
  const ssize_t n = ::read(reader, lines.data(), lines.size());
  ::close(reader);
  ASSERT_GT(n, 0);
  lines.resize(static_cast<size_t>(n));
  EXPECT_EQ(std::count(lines.begin(), lines.end(), '\n'), 12);  // 13 bytes, the first has no prediction
  struct stat st {};
  ASSERT_EQ(::stat(pipe.c_str(), &st), 0);
  EXPECT_TRUE(S_ISFIFO(st.st_mode));
}

TEST_F(OutputToDevices, ASymbolicLinkStaysAndItsFileIsReplaced) {
  const std::string target = write("target", "old"), link = file("link");
  std::filesystem::create_symlink(target, link);
  write_file_atomically(link, "new");
  EXPECT_TRUE(std::filesystem::is_symlink(link));
  EXPECT_EQ(read_file(target), "new");
}

TEST_F(OutputToDevices, AFolderIsRefusedBeforeTheWork) {
  const std::string folder = file("d");
  std::filesystem::create_directory(folder);
  expect_error([&] { AtomicFile f(folder); }, ErrorCode::kIo, {folder, "is a folder"});
}

// The descriptor of standard output by its name, before a pipe and before a regular file.
TEST_F(OutputToDevices, StandardOutputByItsName) {
  const std::string text = write("t.txt", "Hello, world.");
  const ProgramResult result =
      run_sepllm(with_model("score", {"--text", text, "--nll-out", "/proc/self/fd/1"}));
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_NE(result.out.find("perplexity"), std::string::npos) << "the results went to a file that is gone";
}

}  // namespace
}  // namespace sepllm::test
