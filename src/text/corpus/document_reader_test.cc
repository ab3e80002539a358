#include "text/corpus/document_reader.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/check.h"
#include "tests/fuzz/document_inputs.h"
#include "tests/support/expect_error.h"
#include "tests/support/packed.h"
#include "tests/support/support.h"
#include "text/corpus/block_work.h"

namespace sepllm {
namespace {

using test::expect_error;
using test::TemporaryFolder;

using Texts = std::vector<std::string>;

// All documents, put together from their parts.
Texts documents(const Texts& files, const DocumentOptions& options, size_t* n_blocks = nullptr) {
  DocumentReader reader(files, options);
  Texts all;
  bool open = false;
  size_t n = 0;
  for (TextBlock block; reader.next(&block); ++n) {
    for_each_document(block, options, [&](const DocumentPart& part) {
      EXPECT_EQ(part.begins, !open);
      if (part.begins) all.emplace_back();
      all.back() += part.text;
      open = !part.ends;
    });
  }
  EXPECT_FALSE(open);
  if (n_blocks != nullptr) *n_blocks = n;
  return all;
}

// The result of Python's str.split, without an empty last part.
Texts split(const std::string& text, const std::string& mark) {
  Texts parts;
  size_t at = 0;
  for (size_t end = 0; (end = text.find(mark, at)) != std::string::npos; at = end + mark.size()) {
    parts.push_back(text.substr(at, end - at));
  }
  if (at < text.size()) parts.push_back(text.substr(at));
  return parts;
}

TEST(DocumentReader, AFileIsADocument) {
  const TemporaryFolder folder;
  const std::string a = folder.write("a.txt", "one\ntwo\n"), b = folder.write("b", ""),
                    c = folder.write("c.txt.gz", test::gzip("three"));
  EXPECT_EQ(documents({a, b, c}, {}), (Texts{"one\ntwo\n", "three"}));
  EXPECT_EQ(documents({}, {}), Texts());
}

TEST(DocumentReader, ALongTextComesInParts) {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; text.size() < 2'000'000; ++i) text += "line " + std::to_string(i) + " \u00e9nd\r\n";
  const std::string path = folder.write("a.txt", text);
  size_t n = 0;
  EXPECT_EQ(documents({path, path}, {.may_cut = true}, &n), (Texts{text, text}));
  EXPECT_GT(n, 8u);
  EXPECT_EQ(documents({path}, {.may_cut = false}, &n), Texts{text});
  EXPECT_EQ(n, 1u);
  const std::string packed = folder.write("a.zst", test::zstd(text));
  EXPECT_EQ(documents({packed}, {.may_cut = true}), Texts{text});
}

TEST(DocumentReader, SplitsAsTheWholeTextWouldBe) {
  const TemporaryFolder folder;
  std::string text;
  uint64_t state = 1;
  while (text.size() < 3'000'000) {  // runs of letters, blanks and line breaks of all lengths
    state = state * 6364136223846793005u + 1442695040888963407u;
    const auto kind = state >> 61;
    const size_t n = state >> 33 & ((state >> 50 & 1023) == 0 ? 0xFFFF : 7);
    text.append(n, kind < 2 ? '\n' : kind < 6 ? 'x' : '=');
  }
  const std::string path = folder.write("a.txt", text);
  for (const char* mark : {"\n\n", "\n", "===", "x\n=\n", "not there"}) {
    for (const bool may_cut : {false, true}) {
      EXPECT_TRUE(documents({path}, {.split_on = mark, .may_cut = may_cut}) == split(text, mark)) << mark;
    }
  }
  const std::string small = folder.write("b.txt", "a||b||||c||");
  EXPECT_EQ(documents({small, small}, {.split_on = "||"}), (Texts{"a", "b", "", "c", "a", "b", "", "c"}));
}

TEST(DocumentReader, ReadsJsonLines) {
  const TemporaryFolder folder;
  const std::string lines =
      "{\"text\": \"one\\n\\u00e9\\ud83d\\ude00\", \"meta\": {\"text\": 1}}\r\n\n  \n{\"id\": 3, \"text\": "
      "\"\"}\n"
      "{\"text\": \"last\", \"other\": \"x\"}";
  const Texts want = {"one\n\u00e9\U0001f600", "", "last"};
  for (const char* name : {"a.jsonl", "a.ndjson", "a.json", "a.jsonl.gz", "a.jsonl.zst"}) {
    const std::string ending(name + 2);
    const std::string path = folder.write(name, ending.ends_with("gz")    ? test::gzip(lines)
                                                : ending.ends_with("zst") ? test::zstd(lines)
                                                                          : lines);
    EXPECT_EQ(documents({path}, {}), want) << name;
  }
  const std::string path = folder.write("a.txt", "{\"body\": \"b\"}\n");
  EXPECT_EQ(documents({path}, {.format = DocumentFormat::kJsonLines, .json_key = "body"}), Texts{"b"});
  EXPECT_EQ(documents({path}, {}), Texts{"{\"body\": \"b\"}\n"});
}

TEST(DocumentReader, ManyJsonLinesComeInBlocks) {
  const TemporaryFolder folder;
  std::string lines;
  Texts want;
  for (int i = 0; i < 3000; ++i) {
    want.push_back(std::string(static_cast<size_t>(i) % 700, 'a') + std::to_string(i));
    lines += "{\"text\":\"" + want.back() + "\"}\n";
  }
  want.emplace_back(700'000, 'b');  // longer than a block
  lines += "{\"text\":\"" + want.back() + "\"}\n";
  size_t n = 0;
  EXPECT_TRUE(documents({folder.write("a.jsonl", lines)}, {}, &n) == want);
  EXPECT_GT(n, 4u);
}

TEST(DocumentReader, ErrorsNameFileAndLine) {
  const TemporaryFolder folder;
  std::string good;
  for (int i = 0; i < 20'000; ++i) good += "{\"text\": \"a line of text\"}\n";
  const auto fails = [&](const std::string& line, const std::vector<std::string>& parts) {
    const std::string path = folder.write("bad.jsonl", good + line + "\n" + good);
    expect_error([&] { documents({path}, {}); }, ErrorCode::kBadFile, {"bad.jsonl: line 20001"});
    expect_error([&] { documents({path}, {}); }, ErrorCode::kBadFile, parts);
  };
  fails("{\"text\": \"a", {"not valid JSON"});
  fails("{\"text\": \"a\"} x", {"not valid JSON"});
  fails("[1]", {"a JSON object", "[1]"});
  fails("{\"content\": \"a\", \"id\": 2}", {"no key \"text\"", "content, id", "json-key"});
  fails("{\"text\": null}", {"text", "a string", "null"});
  fails("{\"text\": [\"a\"]}", {"text", "a string"});
  fails("{\"text\": \"\xff\"}", {"byte 11", "invalid UTF-8"});
  fails("{\"text\": \"\\ud800\"}", {"text", "a lone surrogate", "on-bad-line"});
  const std::string text = folder.write("bad.txt", "one\ntwo \xc3(\n");
  expect_error([&] { documents({text}, {}); }, ErrorCode::kBadFile, {"bad.txt: line 2, byte 5", "UTF-8"});
  std::string cut = test::gzip(good);
  cut.pop_back();
  const std::string packed = folder.write("cut.jsonl.gz", cut);
  expect_error([&] { documents({packed}, {}); }, ErrorCode::kBadFile, {"cut.jsonl.gz", "cut off"});
}

std::string corpus_folder() { return std::string(SEPLLM_SOURCE_DIR) + "/tests/fuzz/corpus/json_lines"; }

TEST(JsonLinesCorpus, IsReplayed) {
  size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(corpus_folder())) {
    const bool valid = entry.path().filename().string().starts_with("valid_");
    const std::string content = read_file(entry.path());
    EXPECT_EQ(test::try_documents(content, InputForm::kJsonLines), valid) << entry.path();
    EXPECT_EQ(test::try_array(content), entry.path().filename().string().starts_with("array_"));
    ++files;
  }
  EXPECT_GE(files, 9u);
}

TEST(JsonLinesCorpus, EveryCutAndEveryChangedByteIsReadOrRefused) {
  const std::string whole = read_file(corpus_folder() + "/valid_three.jsonl");
  size_t read = 0, refused = 0;
  const auto try_it = [&](const std::string& bytes) {
    ++(test::try_documents(bytes, InputForm::kJsonLines) ? read : refused);
    test::try_documents(bytes, InputForm::kText);
  };
  for (size_t at = 0; at < whole.size(); ++at) {
    try_it(whole.substr(0, at));
    for (int change = 1; change < 256; ++change) {
      std::string damaged = whole;
      damaged[at] = static_cast<char>(static_cast<unsigned char>(damaged[at]) ^ change);
      try_it(damaged);
    }
  }
  EXPECT_GT(refused, 128 * whole.size());  // bytes that break UTF-8, and others
  EXPECT_GT(read, 10 * whole.size());
}

TEST(BlockWork, KeepsTheOrderAndThrowsTheFirstError) {
  const TemporaryFolder folder;
  Texts files;
  for (int i = 0; i < 100; ++i) {
    files.push_back(folder.write("f" + std::to_string(i), i == 70 || i == 75 ? "\xff" : std::to_string(i)));
  }
  files.push_back(folder.file("missing"));
  for (const int threads : {1, 4}) {
    ThreadPool pool(threads);
    const auto run = [&](size_t n_files, int stop, Texts* taken) {
      DocumentReader reader(Texts(files.begin(), files.begin() + static_cast<std::ptrdiff_t>(n_files)), {});
      Texts slots(static_cast<size_t>(block_slots(pool)));
      const auto work = [&](const TextBlock& block, int slot, int worker) {
        SEPLLM_CHECK(worker >= 0 && worker < threads);
        for_each_document(block, reader.options(),
                          [&](const DocumentPart& part) { slots[static_cast<size_t>(slot)] = part.text; });
      };
      return for_each_block(reader, pool, work, [&](int slot) {
        taken->push_back(slots[static_cast<size_t>(slot)]);
        return static_cast<int>(taken->size()) != stop;
      });
    };
    Texts taken;
    EXPECT_TRUE(run(70, 0, &taken));
    ASSERT_EQ(taken.size(), 70u);
    for (int i = 0; i < 70; ++i) EXPECT_EQ(taken[static_cast<size_t>(i)], std::to_string(i));
    taken.clear();
    expect_error([&] { run(101, 0, &taken); }, ErrorCode::kBadFile, {"f70"});
    EXPECT_EQ(taken.size(), 70u);
    files[70] = files[75] = files[0];
    taken.clear();
    expect_error([&] { run(101, 0, &taken); }, ErrorCode::kNotFound, {"missing"});
    EXPECT_EQ(taken.size(), 100u);
    taken.clear();
    EXPECT_FALSE(run(60, 33, &taken));
    EXPECT_EQ(taken.size(), 33u);
    files[70] = folder.file("f70");
    files[75] = folder.file("f75");
  }
}

}  // namespace
}  // namespace sepllm
