#include "base/file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <cstdio>
#include <filesystem>
#include <iterator>
#include <string>
#include <thread>

#include "tests/support/expect_error.h"
#include "tests/support/support.h"

namespace sepllm {
namespace {

using test::expect_error;

size_t count_entries(const std::string& folder) {
  size_t n = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder)) ++n;
  return n;
}

TEST(File, ReadsWholeFiles) {
  const test::TemporaryFolder folder;
  std::string content(200'000, 'x');
  content[70'000] = '\0';
  EXPECT_EQ(read_file(folder.write("f", content)), content);
  EXPECT_EQ(read_file(folder.write("empty", "")), "");
}

TEST(File, MissingFoldersAndLimitsAreErrors) {
  const test::TemporaryFolder folder;
  expect_error([&] { read_file(folder.file("none")); }, ErrorCode::kNotFound, {"none", "cannot open"});
  expect_error([&] { read_file(folder.path()); }, ErrorCode::kIo, {"is a folder"});
  expect_error([&] { MappedFile m(folder.path()); }, ErrorCode::kIo, {"is a folder"});
  const std::string path = folder.write("f", "12345");
  EXPECT_EQ(read_file(path, 5), "12345");
  expect_error([&] { read_file(path, 4); }, ErrorCode::kOutOfRange, {"at most 4 bytes"});
  expect_error([&] { read_file(path + "/below"); }, ErrorCode::kNotFound, {"cannot open"});
}

TEST(File, ReadsPipesUpToTheLimit) {
  const test::TemporaryFolder folder;
  const std::string path = folder.file("pipe");
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  const auto feed = [&](const std::string& text) {
    return std::thread([path, text] {  // copies, because one of the threads may outlive the originals
      std::signal(SIGPIPE, SIG_IGN);   // the reader may stop at its limit
      FILE* f = std::fopen(path.c_str(), "w");
      std::fwrite(text.data(), 1, text.size(), f);
      std::fclose(f);
    });
  };
  const std::string text(100'000, 'p');
  std::thread writer = feed(text);
  EXPECT_EQ(read_file(path), text);
  writer.join();
  writer = feed(text);
  expect_error([&] { read_file(path, 1000); }, ErrorCode::kOutOfRange, {"at most 1000 bytes"});
  writer.join();
  expect_error(
      [&] {
        std::thread opener = feed("x");
        opener.detach();
        MappedFile m(path);
      },
      ErrorCode::kIo, {"not a regular file"});
}

TEST(MappedFile, ShowsTheBytes) {
  const test::TemporaryFolder folder;
  const MappedFile m(folder.write("f", "hello"));
  EXPECT_EQ(m.bytes(), "hello");
  const MappedFile empty(folder.write("empty", ""));
  EXPECT_TRUE(empty.bytes().empty());
}

TEST(AtomicFile, IsThereWholeOrNotAtAll) {
  const test::TemporaryFolder folder;
  const std::string path = folder.file("f");
  {
    AtomicFile file(path);
    file.write("half");
    EXPECT_FALSE(file_exists(path));
  }
  EXPECT_EQ(count_entries(folder.path()), 0U) << "an uncommitted file left something behind";
  write_file_atomically(path, "first");
  {
    AtomicFile file(path);
    file.write("second");
  }
  EXPECT_EQ(read_file(path), "first");
  write_file_atomically(path, "third");
  EXPECT_EQ(read_file(path), "third");
  EXPECT_EQ(count_entries(folder.path()), 1U);
}

// Larger than the size from which bytes are sent to the disk during writing.
TEST(AtomicFile, LargeOnesAreWhole) {
  const test::TemporaryFolder folder;
  const std::string path = folder.file("f");
  std::string bytes((size_t{70} << 20) + 13, '\0');
  for (size_t k = 0; k < bytes.size(); k += 4093) bytes[k] = static_cast<char>(k / 4093);
  AtomicFile file(path);
  for (int part = 0; part < 2; ++part) file.write(bytes);
  file.commit();
  const std::string found = read_file(path);
  ASSERT_EQ(found.size(), 2 * bytes.size());
  EXPECT_TRUE(found == bytes + bytes);
}

TEST(AtomicFile, WritesAtTheSameTimeDoNotMix) {
  const test::TemporaryFolder folder;
  const std::string path = folder.file("f");
  AtomicFile a(path);
  AtomicFile b(path);
  a.write("aaaa");
  b.write("b");
  a.commit();
  EXPECT_EQ(read_file(path), "aaaa");
  b.commit();
  EXPECT_EQ(read_file(path), "b");
}

TEST(AtomicFile, UnwritableTargetsAreErrors) {
  const test::TemporaryFolder folder;
  expect_error([&] { write_file_atomically(folder.file("no/such/f"), "x"); }, ErrorCode::kNotFound,
               {"no/such/f", "cannot write"});
  std::filesystem::create_directory(folder.file("d"));
  expect_error([&] { write_file_atomically(folder.file("d"), "x"); }, ErrorCode::kIo, {"is a folder"});
  EXPECT_EQ(count_entries(folder.path()), 1U) << "a refused target left its temporary file";
  folder.write("plain", "x");
  expect_error([&] { write_file_atomically(folder.file("plain/f"), "x"); }, ErrorCode::kNotFound,
               {"cannot write"});
}

// A limit on the file size stands in for a full disk: write() fails part-way in the same manner.
TEST(AtomicFile, AFullDiskLeavesTheOldFile) {
  const test::TemporaryFolder folder;
  const std::string path = folder.file("f");
  write_file_atomically(path, "old");
  std::signal(SIGXFSZ, SIG_IGN);
  struct rlimit old {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old), 0);
  struct rlimit small = old;
  small.rlim_cur = 1000;
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  expect_error([&] { write_file_atomically(path, std::string(5000, 'n')); }, ErrorCode::kIo,
               {path, "cannot write"});
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &old), 0);
  EXPECT_EQ(read_file(path), "old");
  EXPECT_EQ(count_entries(folder.path()), 1U);
}

TEST(AtomicFolder, IsThereWholeOrNotAtAll) {
  const test::TemporaryFolder folder;
  const std::string path = folder.file("out");
  {
    const AtomicFolder out(path);
    write_file_atomically(out.path() + "/f", "1");
  }
  EXPECT_EQ(count_entries(folder.path()), 0U);
  AtomicFolder out(path + "/");
  write_file_atomically(out.path() + "/f", "2");
  EXPECT_FALSE(file_exists(path));
  out.commit();
  EXPECT_EQ(read_file(path + "/f"), "2");
  EXPECT_EQ(count_entries(folder.path()), 1U);
}

TEST(AtomicFolder, TargetsWithContentAreErrors) {
  const test::TemporaryFolder folder;
  const std::string path = folder.file("out");
  AtomicFolder late(path);
  {
    AtomicFolder first(path);
    write_file_atomically(first.path() + "/f", "1");
    first.commit();
  }
  expect_error([&] { const AtomicFolder second(path); }, ErrorCode::kInvalidArgument,
               {"out", "already exists"});
  expect_error([&] { late.commit(); }, ErrorCode::kIo, {"out", "cannot make the folder"});
  expect_error([&] { const AtomicFolder below(path + "/f"); }, ErrorCode::kInvalidArgument, {"already"});
  expect_error([&] { const AtomicFolder below(path + "/f/g"); }, ErrorCode::kNotFound, {"out/f/g"});
  EXPECT_EQ(read_file(path + "/f"), "1");
  const std::string empty = folder.file("empty");
  std::filesystem::create_directory(empty);
  AtomicFolder over(empty);
  over.commit();
}

TEST(AtomicFolder, ReplacesAFolderWhereThatIsAsked) {
  const test::TemporaryFolder folder;
  const std::string path = folder.file("model");
  for (const char* content : {"first", "second"}) {
    AtomicFolder next(path, /*replace=*/true);
    write_file_atomically(next.path() + "/" + content, content);
    next.commit();
  }
  EXPECT_EQ(read_file(path + "/second"), "second");
  EXPECT_FALSE(file_exists(path + "/first"));
  { const AtomicFolder given_up(path, /*replace=*/true); }
  EXPECT_TRUE(file_exists(path + "/second"));
  const auto entries = std::filesystem::directory_iterator(folder.path());
  EXPECT_EQ(std::distance(begin(entries), end(entries)), 1);  // nothing is left next to it
  test::expect_error([&] { AtomicFolder refused(path); }, ErrorCode::kInvalidArgument, {"already"});
  test::expect_error([&] { AtomicFolder refused(path + "/second", true); }, ErrorCode::kInvalidArgument,
                     {"second"});
}

}  // namespace
}  // namespace sepllm
