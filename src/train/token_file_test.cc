// Compares token files with those of tests/golden/make_token_file_golden.py.
#include "train/token_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/log.h"
#include "tests/support/expect_error.h"
#include "tests/support/golden.h"
#include "tests/support/support.h"

namespace sepllm {
namespace {

using Documents = std::vector<std::vector<int32_t>>;

TEST(TokenFileGolden, IsRead) {
  const std::string folder = test::golden_folder() + "/token_files/";
  const Json cases = test::read_json(folder + "cases.json");
  ASSERT_GE(cases.size(), 6u);
  for (const Json& c : cases) {
    SCOPED_TRACE(c["name"].get<std::string>());
    const TokenFile file(folder + c["name"].get<std::string>());
    EXPECT_EQ(token_bytes(file.type()), c["bytes"].get<int64_t>());
    Documents got;
    for (int64_t d = 0; d < file.n_documents(); ++d) {
      const int64_t first = file.document_begin(d);
      got.emplace_back(static_cast<size_t>(file.document_begin(d + 1) - first));
      file.read(first, got.back(), int64_t{1} << 31);
    }
    EXPECT_EQ(got, c["documents"].get<Documents>());
  }
}

TEST(TokenFileGolden, IsWrittenByteForByte) {
  const std::string folder = test::golden_folder() + "/token_files/";
  const test::TemporaryFolder temporary;
  int n_written = 0;
  for (const Json& c : test::read_json(folder + "cases.json")) {
    if (c["vocab_size"].is_null()) continue;  // a form that we do not write
    const auto name = c["name"].get<std::string>();
    TokenFileWriter writer(temporary.file(name), c["vocab_size"]);
    for (const auto& document : c["documents"].get<Documents>()) {
      writer.add(std::span(document).first(1));
      writer.add(std::span(document).subspan(1));
      writer.end_document();
    }
    writer.finish();
    for (const char* ending : {".bin", ".idx"}) {
      EXPECT_EQ(read_file(temporary.file(name + ending)), read_file(folder + name + ending))
          << name << ending;
    }
    ++n_written;
  }
  EXPECT_EQ(n_written, 2);
}

// Writes the index of items of these sizes (16-bit tokens, a document each) whose pointers are as a version
// of Megatron wrote them: summed up in 32 bits, with or without a sign. The .bin file has the right size, but
// no blocks on the disk; the first two tokens of item i are i + 1.
void write_overflowed(const std::string& prefix, const std::vector<int32_t>& sizes, bool with_sign,
                      const std::function<int64_t(size_t item, int64_t pointer)>& change) {
  std::string index("MMIDIDX\0\0", 9);
  StringWriter out(&index);
  out.value(uint64_t{1});
  out.value(uint8_t{8});
  out.value(uint64_t{sizes.size()});
  out.value(uint64_t{sizes.size() + 1});
  out.list(std::span<const int32_t>(sizes));
  std::FILE* data = std::fopen((prefix + ".bin").c_str(), "wb");
  int64_t end = 0;
  for (size_t i = 0; i < sizes.size(); end += 2 * int64_t{sizes[i]}, ++i) {
    const auto low = static_cast<uint32_t>(end);
    out.value(change(i, with_sign ? int64_t{static_cast<int32_t>(low)} : int64_t{low}));
    ASSERT_EQ(::fseeko(data, end, SEEK_SET), 0);
    const std::array<uint16_t, 2> tokens = {static_cast<uint16_t>(i + 1), static_cast<uint16_t>(i + 1)};
    ASSERT_EQ(std::fwrite(tokens.data(), 2, 2, data), 2U);
  }
  for (size_t d = 0; d <= sizes.size(); ++d) out.value(uint64_t{d});
  std::fclose(data);
  ASSERT_EQ(::truncate((prefix + ".bin").c_str(), end), 0);
  write_file_atomically(prefix + ".idx", index);
}

TEST(TokenFile, PointersThatHaveOverflowedAreCompletedFromTheSizes) {
  const test::TemporaryFolder folder;
  const std::string prefix = folder.file("data");
  std::vector<std::string> warnings;
  LogSink old = set_log_sink([&](LogLevel, const std::string& text) { warnings.push_back(text); });
  const std::vector<int32_t> sizes = {1 << 30, 1 << 30, 4, 1 << 30, 1 << 29, INT32_MAX, 7, 2};
  const auto as_it_is = [](size_t, int64_t pointer) { return pointer; };
  for (const bool with_sign : {true, false}) {
    write_overflowed(prefix, sizes, with_sign, as_it_is);
    warnings.clear();
    const TokenFile file(prefix);
    ASSERT_EQ(warnings.size(), 1U);
    EXPECT_NE(warnings[0].find(with_sign ? "data.idx: entry 1" : "data.idx: entry 2"), std::string::npos);
    int64_t begin = 0;
    for (size_t d = 0; d < sizes.size(); begin += sizes[d], ++d) {
      const auto document = static_cast<int64_t>(d);
      EXPECT_EQ(file.document_begin(document), begin);
      EXPECT_EQ(file.document_of(begin), document);
      EXPECT_EQ(file.document_of(begin + sizes[d] - 1), document);
      std::vector<int32_t> tokens(2);
      file.read(begin, tokens, 100);
      EXPECT_EQ(tokens, std::vector<int32_t>(2, static_cast<int32_t>(d) + 1));
    }
    EXPECT_EQ(file.n_tokens(), begin);
  }
  // A pointer that no overflow explains stays an error, before and after the place of the overflow.
  for (const size_t wrong : {size_t{0}, size_t{1}, size_t{5}}) {
    write_overflowed(prefix, sizes, true, [=](size_t i, int64_t p) { return i == wrong ? p + 2 : p; });
    test::expect_error([&] { TokenFile file(prefix); }, ErrorCode::kBadFile,
                       {"data.idx", "entry " + std::to_string(wrong), "does not begin where"});
  }
  set_log_sink(std::move(old));
}

}  // namespace
}  // namespace sepllm
