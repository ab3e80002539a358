#include "base/output_place.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <iterator>

#include "base/file.h"
#include "tests/support/expect_error.h"
#include "tests/support/support.h"

namespace sepllm {
namespace {

namespace fs = std::filesystem;
using test::expect_error;

constexpr OutputKind kKinds[] = {OutputKind::kFile, OutputKind::kGrowingFile, OutputKind::kFolder};

TEST(OutputPlace, MissingFoldersAreMadeAndGoWhereNothingWasWritten) {
  for (const OutputKind kind : kKinds) {
    const test::TemporaryFolder folder;
    {
      const OutputPlace place(folder.file("a/b/c/out"), kind);
      EXPECT_TRUE(is_folder(folder.file("a/b/c")));
      EXPECT_TRUE(fs::is_empty(folder.file("a/b/c")));
    }
    EXPECT_FALSE(file_exists(folder.file("a")));
    fs::create_directory(folder.file("a"));
    {
      const OutputPlace place(folder.file("a/b/c/out"), kind);
      folder.write("a/b/kept", "x");
    }
    EXPECT_TRUE(file_exists(folder.file("a/b/kept")));
    EXPECT_FALSE(file_exists(folder.file("a/b/c")));
  }
}

TEST(OutputPlace, WhatIsThereStays) {
  const test::TemporaryFolder folder;
  folder.write("file", "content");
  for (const OutputKind kind : {OutputKind::kFile, OutputKind::kGrowingFile}) {
    const OutputPlace place(folder.file("file"), kind);
    EXPECT_EQ(read_file(folder.file("file")), "content");
  }
  EXPECT_EQ(read_file(folder.file("file")), "content");
  fs::create_directory(folder.file("empty"));
  { const OutputPlace place(folder.file("empty/"), OutputKind::kFolder); }
  EXPECT_TRUE(is_folder(folder.file("empty"))) << "it was not made here";
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()), 2);
}

TEST(OutputPlace, WhatCannotBeWrittenIsAnError) {
  const test::TemporaryFolder folder;
  folder.write("file", "x");
  for (const OutputKind kind : kKinds) {
    for (const char* path : {"file/out", "file/a/b/out"}) {
      EXPECT_THROW(OutputPlace(folder.file(path), kind), Error) << path;
    }
    EXPECT_THROW(OutputPlace("/proc/no/such/out", kind), Error);
  }
  for (const OutputKind kind : {OutputKind::kFile, OutputKind::kGrowingFile}) {
    expect_error([&] { const OutputPlace place(folder.path(), kind); }, ErrorCode::kIo, {"is a folder"});
  }
  expect_error([&] { const OutputPlace place(folder.path(), OutputKind::kFolder); },
               ErrorCode::kInvalidArgument, {"already exists"});
  // Nothing is left of an attempt that failed half-way.
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()), 1);
}

TEST(OutputPlace, PipesAndDevicesAreNotOpened) {
  const test::TemporaryFolder folder;
  ASSERT_EQ(::mkfifo(folder.file("pipe").c_str(), 0600), 0);
  for (const OutputKind kind : {OutputKind::kFile, OutputKind::kGrowingFile}) {
    const OutputPlace pipe(folder.file("pipe"), kind);  // would wait for a reader
    const OutputPlace device("/dev/null", kind);
    const OutputPlace none("", kind);
  }
  const OutputPlace here("out-of-a-test-that-is-not-written");  // the path names no folder
}

}  // namespace
}  // namespace sepllm
