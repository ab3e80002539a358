#include "train/prepare.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "model/random_model.h"
#include "tests/support/expect_error.h"
#include "tests/support/support.h"

namespace sepllm {
namespace {

using test::expect_error;
using test::TemporaryFolder;

class Prepare : public ::testing::Test {
 protected:
  Prepare() {
    write_random_model(folder_.file("model"), {});
    tokenizer_ = load_tokenizer(folder_.file("model"));
    separators_ = TokenSet(tokenizer_->vocab_size());
    separators_.insert('.');
  }

  PrepareReport prepare(const std::vector<std::string>& files, const DocumentOptions& documents,
                        const PrepareOptions& options, int n_threads = 2) {
    ThreadPool pool(n_threads);
    DocumentReader reader(files, documents);
    TokenFileWriter writer(folder_.file("out"), tokenizer_->vocab_size());
    const PrepareReport report = prepare_tokens(reader, *tokenizer_, separators_, options, writer, pool,
                                                [](const PrepareReport&) { return true; });
    writer.finish();
    return report;
  }

  std::vector<std::vector<int32_t>> written() const {
    const TokenFile file(folder_.file("out"));
    std::vector<std::vector<int32_t>> all;
    for (int64_t d = 0; d < file.n_documents(); ++d) {
      const int64_t first = file.document_begin(d);
      all.emplace_back(static_cast<size_t>(file.document_begin(d + 1) - first));
      file.read(first, all.back(), tokenizer_->vocab_size());
    }
    return all;
  }

  TemporaryFolder folder_;
  std::unique_ptr<Tokenizer> tokenizer_;
  TokenSet separators_;
};

TEST_F(Prepare, WritesDocumentsInOrderWithTheirEnds) {
  std::string lines;
  std::vector<std::string> texts;
  for (int i = 0; i < 3000; ++i) {
    texts.push_back(i % 100 == 7 ? ""
                                 : std::to_string(i) + std::string(static_cast<size_t>(i) % 900, 'x') + ".");
    lines += "{\"text\": \"" + texts.back() + "\"}\n";
  }
  const std::string path = folder_.write("a.jsonl", lines);
  for (const int n_threads : {1, 3}) {
    for (const bool marks : {false, true}) {
      PrepareOptions options;
      if (marks) options = {.bos = 1, .eod = 2};
      const PrepareReport report = prepare({path}, {}, options, n_threads);
      std::vector<std::vector<int32_t>> want;
      PrepareReport counts;
      for (const std::string& text : texts) {
        if (text.empty()) continue;
        std::vector<int32_t> ids = tokenizer_->encode(text);
        if (marks) ids.insert(ids.begin(), 1);
        if (marks) ids.push_back(2);
        counts.tokens += static_cast<int64_t>(ids.size());
        counts.text_bytes += static_cast<int64_t>(text.size());
        want.push_back(std::move(ids));
      }
      EXPECT_TRUE(written() == want);
      EXPECT_EQ(report.documents, 2970);
      EXPECT_EQ(report.empty, 30);
      EXPECT_EQ(report.separators, 2970);
      EXPECT_EQ(report.tokens, counts.tokens);
      EXPECT_EQ(report.text_bytes, counts.text_bytes);
    }
  }
}

TEST_F(Prepare, ALongTextInPartsHasTheIdsOfTheWhole) {
  std::string text;
  for (int i = 0; text.size() < 1'500'000; ++i) text += "line " + std::to_string(i) + "\nend\n\n";
  const std::string path = folder_.write("a.txt", text);
  const PrepareReport report = prepare({path, path}, {.may_cut = true}, {.eod = 2});
  std::vector<int32_t> ids = tokenizer_->encode(text);
  ids.push_back(2);
  EXPECT_TRUE(written() == (std::vector<std::vector<int32_t>>{ids, ids}));
  EXPECT_EQ(report.text_bytes, 2 * static_cast<int64_t>(text.size()));
}

TEST_F(Prepare, AFaultLeavesWhatWasThere) {
  prepare({folder_.write("good.txt", "good")}, {}, {});
  const std::string bin = read_file(folder_.file("out.bin")), idx = read_file(folder_.file("out.idx"));
  const std::string bad = folder_.write("bad.jsonl", "{\"text\": \"a\"}\n{}\n");
  expect_error(
      [&] {
        prepare({folder_.file("good.txt"), bad}, {}, {});
      },
      ErrorCode::kBadFile, {"bad.jsonl: line 2"});
  EXPECT_EQ(read_file(folder_.file("out.bin")), bin);
  EXPECT_EQ(read_file(folder_.file("out.idx")), idx);
}

TEST_F(Prepare, CanBeInterrupted) {
  ThreadPool pool(1);
  DocumentReader reader({folder_.write("a.txt", "text")}, {});
  TokenFileWriter writer(folder_.file("out"), tokenizer_->vocab_size());
  expect_error(
      [&] {
        prepare_tokens(reader, *tokenizer_, separators_, {}, writer, pool,
                       [](const PrepareReport&) { return false; });
      },
      ErrorCode::kInvalidArgument, {"interrupted", "nothing was written"});
  EXPECT_FALSE(file_exists(folder_.file("out.bin")));
}

}  // namespace
}  // namespace sepllm
