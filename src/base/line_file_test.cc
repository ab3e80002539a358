#include "base/line_file.h"

#include <gtest/gtest.h>

#include <string>

#include "base/file.h"
#include "tests/support/expect_error.h"
#include "tests/support/support.h"

namespace sepllm {
namespace {

// A run that fails before its first line neither removes nor leaves anything.
TEST(LineFile, WhatWasThereIsLostWithTheFirstLineOnly) {
  const test::TemporaryFolder folder;
  folder.write("log", "old\n");
  { const LineFile file(folder.file("log")); }
  EXPECT_EQ(read_file(folder.file("log")), "old\n");
  { const LineFile file(folder.file("new")); }
  EXPECT_FALSE(file_exists(folder.file("new")));
  {
    LineFile file(folder.file("log"));
    file.write("a\n");
    EXPECT_EQ(read_file(folder.file("log")), "old\n") << "not flushed yet";
    file.flush();
    EXPECT_EQ(read_file(folder.file("log")), "a\n");
    file.write("b\n");
  }
  EXPECT_EQ(read_file(folder.file("log")), "a\nb\n");
}

TEST(LineFile, ARunThatEndsWithoutALineLeavesAnEmptyFile) {
  const test::TemporaryFolder folder;
  for (const char* name : {"closed", "synced"}) {
    folder.write(name, "old\n");
    LineFile file(folder.file(name));
    if (name == std::string("closed")) {
      file.close();
    } else {
      file.sync();
    }
    EXPECT_EQ(read_file(folder.file(name)), "") << name;
  }
}

TEST(LineFile, GoesOnBehindWhatIsKept) {
  const test::TemporaryFolder folder;
  folder.write("log", "one\ntwo\nthree\n");
  LineFile file(folder.file("log"), 8);
  file.write("3\n");
  file.close();
  EXPECT_EQ(read_file(folder.file("log")), "one\ntwo\n3\n");
}

TEST(LineFile, WhatCannotBeWrittenIsAnError) {
  const test::TemporaryFolder folder;
  test::expect_error([&] { LineFile file(folder.path()); }, ErrorCode::kIo, {folder.path()});
  test::expect_error([&] { LineFile file(folder.file("none/log")); }, ErrorCode::kIo, {"none/log"});
}

}  // namespace
}  // namespace sepllm
