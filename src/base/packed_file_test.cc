#include "base/packed_file.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "tests/support/expect_error.h"
#include "tests/support/packed.h"
#include "tests/support/support.h"

namespace sepllm {
namespace {

using test::expect_error;
using test::gzip;
using test::TemporaryFolder;
using test::zstd;

std::string unpack(const std::string& path, size_t n = 1000) {
  PackedFileReader reader(path);
  std::string out;
  while (reader.append(&out, n) > 0) {
  }
  std::string more;
  EXPECT_EQ(reader.append(&more, n), 0u);  // after the end, 0 again
  EXPECT_EQ(reader.bytes_read(), read_file(path).size());
  return out;
}

// Text that compresses a little, longer than all blocks.
std::string long_text() {
  std::string text;
  uint64_t state = 1;
  while (text.size() < 400'000) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    text += "word" + std::to_string(state >> 40) + (state % 11 == 0 ? "\n" : " ");
  }
  return text;
}

TEST(PackedFile, GivesTheContentHoweverItIsPacked) {
  const TemporaryFolder folder;
  const std::string text = long_text();
  for (const size_t n : {size_t{1} << 20, size_t{4099}}) {
    EXPECT_EQ(unpack(folder.write("a.txt", text), n), text);
    EXPECT_EQ(unpack(folder.write("a.gz", gzip(text)), n), text);
    EXPECT_EQ(unpack(folder.write("a.zst", zstd(text)), n), text);
  }
  for (const std::string& small :
       {std::string(), std::string("a"), std::string("\x1f"), std::string("abcde")}) {
    EXPECT_EQ(unpack(folder.write("b.txt", small), 1), small);
    EXPECT_EQ(unpack(folder.write("b.gz", gzip(small)), 1), small);
    EXPECT_EQ(unpack(folder.write("b.zst", zstd(small)), 1), small);
  }
  // The content decides, whatever the name says.
  EXPECT_EQ(unpack(folder.write("c.jsonl", gzip(text))), text);
}

TEST(PackedFile, PartsFollowOneAnother) {
  const TemporaryFolder folder;
  EXPECT_EQ(unpack(folder.write("a.gz", gzip("one") + gzip("") + gzip("two"))), "onetwo");
  EXPECT_EQ(unpack(folder.write("a.zst", zstd("one") + zstd("") + zstd("two"))), "onetwo");
  const std::string skipped("\x50\x2a\x4d\x18\x03\x00\x00\x00xyz", 11);
  EXPECT_EQ(unpack(folder.write("b.zst", skipped + zstd("one") + skipped + zstd("two"))), "onetwo");
  EXPECT_EQ(unpack(folder.write("b.gz", gzip("one") + std::string(70'000, '\0'))), "one");
}

TEST(PackedFile, EveryCutIsRefused) {
  const TemporaryFolder folder;
  const std::string text = long_text().substr(0, 500);
  for (const auto& [name, packed] : {std::pair("a.gz", gzip(text)), std::pair("a.zst", zstd(text))}) {
    for (size_t size = 0; size < packed.size(); ++size) {
      const std::string path = folder.write(name, packed.substr(0, size));
      expect_error([&] { unpack(path); }, ErrorCode::kBadFile, {name});
    }
    const std::string path = folder.write(name, packed.substr(0, packed.size() - 1));
    expect_error([&] { unpack(path); }, ErrorCode::kBadFile,
                 {name, "byte " + std::to_string(packed.size() - 1), "cut off"});
  }
}

TEST(PackedFile, ChangedBytesAreRefusedOrHarmless) {
  const TemporaryFolder folder;
  const std::string text = long_text().substr(0, 500);
  for (const auto& [name, packed] : {std::pair("a.gz", gzip(text)), std::pair("a.zst", zstd(text))}) {
    size_t refused = 0;
    for (size_t at = 0; at < packed.size(); ++at) {
      std::string damaged = packed;
      damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
      try {
        EXPECT_EQ(unpack(folder.write(name, damaged)), text) << at;  // e.g. the time in gzip's header
      } catch (const Error&) {
        ++refused;
      }
    }
    EXPECT_GT(refused, packed.size() - 12) << name;
  }
}

TEST(PackedFile, SaysWhatIsWrong) {
  const TemporaryFolder folder;
  const std::string path = folder.file("none.gz");
  expect_error([&] { PackedFileReader reader(path); }, ErrorCode::kNotFound, {"none.gz"});
  const std::string text = folder.write("text.gz", "just text");
  expect_error([&] { PackedFileReader reader(text); }, ErrorCode::kBadFile, {"text.gz", "gzip"});
  const std::string tail = folder.write("tail.gz", gzip("one") + "tail");
  expect_error([&] { unpack(tail); }, ErrorCode::kBadFile, {"tail.gz", "byte 23", "something else follows"});
}

}  // namespace
}  // namespace sepllm
