#include "base/file_kind.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstddef>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "tests/support/expect_error.h"
#include "tests/support/support.h"

namespace sepllm {
namespace {

const std::vector<std::pair<std::string, FileKind>>& kinds_by_name() {
#define SEPLLM_KIND(name) \
  { #name, FileKind::name }
  static const std::vector<std::pair<std::string, FileKind>> kinds = {SEPLLM_KIND(kUnknown),
                                                                      SEPLLM_KIND(kEmpty),
                                                                      SEPLLM_KIND(kZeros),
                                                                      SEPLLM_KIND(kGzip),
                                                                      SEPLLM_KIND(kZstd),
                                                                      SEPLLM_KIND(kXz),
                                                                      SEPLLM_KIND(kBzip2),
                                                                      SEPLLM_KIND(kLz4),
                                                                      SEPLLM_KIND(kLzma),
                                                                      SEPLLM_KIND(kZip),
                                                                      SEPLLM_KIND(kTar),
                                                                      SEPLLM_KIND(kParquet),
                                                                      SEPLLM_KIND(kArrow),
                                                                      SEPLLM_KIND(kAvro),
                                                                      SEPLLM_KIND(kHdf5),
                                                                      SEPLLM_KIND(kSqlite),
                                                                      SEPLLM_KIND(kNumpy),
                                                                      SEPLLM_KIND(kPickle),
                                                                      SEPLLM_KIND(kSafetensors),
                                                                      SEPLLM_KIND(kGguf),
                                                                      SEPLLM_KIND(kTokenIndex),
                                                                      SEPLLM_KIND(kGitLfsPointer),
                                                                      SEPLLM_KIND(kGitAnnexPointer),
                                                                      SEPLLM_KIND(kPdf),
                                                                      SEPLLM_KIND(kHtml),
                                                                      SEPLLM_KIND(kXml),
                                                                      SEPLLM_KIND(kUtf16),
                                                                      SEPLLM_KIND(kUtf32),
                                                                      SEPLLM_KIND(kJson),
                                                                      SEPLLM_KIND(kMedia),
                                                                      SEPLLM_KIND(kProgram)};
#undef SEPLLM_KIND
  return kinds;
}

std::string bytes_of(const std::string& hex) {
  std::string out;
  for (size_t at = 0; at + 1 < hex.size(); at += 2) {
    out += static_cast<char>(std::stoi(hex.substr(at, 2), nullptr, 16));
  }
  return out;
}

// Files written by the kinds' own tools (tests/golden/make_file_kinds_golden.py).
TEST(FileKind, IsToldOfWhatOtherToolsWrite) {
  const test::TemporaryFolder folder;
  const std::string path = std::string(SEPLLM_SOURCE_DIR) + "/tests/golden/file_kinds/starts.json";
  const Json all = parse_json(read_file(path), path);
  ASSERT_EQ(all.size(), kinds_by_name().size());
  for (const auto& [name, kind] : kinds_by_name()) {
    ASSERT_TRUE(all.contains(name)) << name;
    for (const Json& entry : all[name]) {
      const std::string start = bytes_of(entry[1].get<std::string>());
      EXPECT_EQ(file_kind(start), kind)
          << name << ": " << entry[0] << ", " << file_kind_name(file_kind(start));
      EXPECT_EQ(file_kind_of(folder.write("f.txt", start)), kind) << name << ": " << entry[0];
    }
  }
}

TEST(FileKind, EveryBeginningOfAFileIsSomeKind) {
  const std::string path = std::string(SEPLLM_SOURCE_DIR) + "/tests/golden/file_kinds/starts.json";
  const Json all = parse_json(read_file(path), path);
  for (const auto& [name, entries] : all.items()) {
    for (const Json& entry : entries) {
      const std::string whole = bytes_of(entry[1].get<std::string>());
      for (size_t n = 0; n <= whole.size(); ++n) {
        const std::vector<char> exact(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(n));
        EXPECT_FALSE(file_kind_name(file_kind({exact.data(), n})).empty());
      }
    }
  }
}

TEST(FileKind, EachHasANameOfItsOwn) {
  std::set<std::string> names;
  for (int kind = 0; kind <= static_cast<int>(FileKind::kProgram); ++kind) {
    const std::string name = file_kind_name(static_cast<FileKind>(kind));
    EXPECT_TRUE(names.insert(name).second) << name;
  }
  EXPECT_EQ(file_kind_name(FileKind::kParquet), "a Parquet file");
  EXPECT_NE(file_kind_remedy(FileKind::kGitLfsPointer).find("git lfs pull"), std::string::npos);
  EXPECT_EQ(file_kind_remedy(FileKind::kUnknown), "");
}

TEST(FileKind, PipesKeepTheirBytesAndFoldersAreErrors) {
  const test::TemporaryFolder folder;
  const std::string pipe = folder.file("pipe");
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_EQ(file_kind_of(pipe), FileKind::kUnknown);  // does not wait for a writer
  EXPECT_EQ(file_kind_of("/dev/null"), FileKind::kUnknown);
  test::expect_error([&] { file_kind_of(folder.path()); }, ErrorCode::kIo, {"folder"});
  test::expect_error([&] { file_kind_of(folder.file("none")); }, ErrorCode::kNotFound, {"none"});
}

}  // namespace
}  // namespace sepllm
