// Token files against those of tests/golden/make_token_file_golden.py.
#include "train/token_file.h"

#include <gtest/gtest.h>

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
    if (c["vocab_size"].is_null()) continue;  // not a form that we write
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

}  // namespace
}  // namespace sepllm
