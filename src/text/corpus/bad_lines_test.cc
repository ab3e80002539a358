// What happens to lines without a valid text, for every way to treat them.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "tests/support/expect_error.h"
#include "tests/support/support.h"
#include "text/corpus/document_reader.h"

namespace sepllm {
namespace {

using test::expect_error;
using Texts = std::vector<std::string>;

struct Outcome {
  Texts texts;
  LineNotes notes;
};

Outcome outcome(const TextBlock& block, const DocumentOptions& options) {
  Outcome out;
  out.notes =
      for_each_document(block, options, [&](const DocumentPart& p) { out.texts.emplace_back(p.text); });
  return out;
}

std::string from_hex(const std::string& hex) {
  std::string out;
  for (size_t at = 0; at < hex.size(); at += 2) {
    out += static_cast<char>(std::stoi(hex.substr(at, 2), nullptr, 16));
  }
  return out;
}

// tests/golden/make_json_golden.py: each line separately, and all of them in one block.
TEST(BadLines, OfJsonAreMendedAsPythonAndTiktokenDo) {
  const std::string golden = std::string(SEPLLM_SOURCE_DIR) + "/tests/golden/json/python.json";
  const Json all = parse_json(read_file(golden), golden).at("lines");
  ASSERT_GE(all.size(), 20U);
  TextBlock together{.file = "f", .form = InputForm::kJsonLines, .line = 1};
  Texts want, valid;
  for (const Json& entry : all) {
    const std::string line = from_hex(entry[0].get<std::string>());
    together.bytes += line + "\n";
    const TextBlock block{.bytes = line, .file = "f", .form = InputForm::kJsonLines, .line = 7};
    const Outcome mended = outcome(block, {.on_bad_line = OnBadLine::kReplace});
    EXPECT_EQ(mended.texts, entry[1].is_null() ? Texts() : Texts{entry[1].get<std::string>()}) << line;
    EXPECT_EQ(mended.notes.skipped, entry[1].is_null() ? 1 : 0) << line;
    const Outcome rest = outcome(block, {.on_bad_line = OnBadLine::kSkip});
    EXPECT_EQ(rest.notes.replaced, 0);
    const bool is_valid = mended.notes.skipped + mended.notes.replaced == 0;
    EXPECT_EQ(rest.texts, is_valid ? mended.texts : Texts()) << line;
    EXPECT_EQ(rest.notes.skipped, is_valid ? 0 : 1) << line;
    if (is_valid) {
      EXPECT_EQ(outcome(block, {}).texts, mended.texts) << line;
      valid.push_back(mended.texts[0]);
    } else {
      expect_error([&] { outcome(block, {}); }, ErrorCode::kBadFile, {"f: line 7", "on-bad-line"});
    }
    if (!entry[1].is_null()) want.push_back(entry[1].get<std::string>());
  }
  EXPECT_EQ(outcome(together, {.on_bad_line = OnBadLine::kReplace}).texts, want);
  const Outcome skipped = outcome(together, {.on_bad_line = OnBadLine::kSkip});
  EXPECT_EQ(skipped.texts, valid);
  EXPECT_EQ(skipped.notes.skipped, static_cast<int64_t>(all.size() - valid.size()));
  EXPECT_NE(skipped.notes.first_skipped.find("f: line 1: text: a lone surrogate"), std::string::npos);
}

TEST(BadLines, OfTextAreLeftOutOrMended) {
  const std::string bytes = "one\nt\xffwo\r\nthree\n\nfour\n\xe9\n\nfi\xe2\x82ve";
  const TextBlock block{.bytes = bytes, .file = "f", .line = 10};
  expect_error([&] { outcome(block, {}); }, ErrorCode::kBadFile, {"f: line 11, byte 2", "on-bad-line"});
  const Outcome mended = outcome(block, {.on_bad_line = OnBadLine::kReplace});
  EXPECT_EQ(mended.texts, Texts{"one\nt\ufffdwo\r\nthree\n\nfour\n\ufffd\n\nfi\ufffdve"});
  EXPECT_EQ(mended.notes.replaced, 3);
  EXPECT_EQ(mended.notes.first_replaced, "f: line 11, byte 2 of it: invalid UTF-8");
  const Outcome skipped = outcome(block, {.on_bad_line = OnBadLine::kSkip});
  EXPECT_EQ(skipped.texts, Texts{"one\nthree\n\nfour\n\n"});
  EXPECT_EQ(skipped.notes.skipped, 3);
  // The file's bytes tell documents apart: leaving out a line does not join two of them.
  EXPECT_EQ(outcome(block, {.split_on = "\n\n", .on_bad_line = OnBadLine::kSkip}).texts,
            (Texts{"one\nthree", "four\n", ""}));
  EXPECT_EQ(outcome(block, {.split_on = "\n\n", .on_bad_line = OnBadLine::kReplace}).texts,
            (Texts{"one\nt\ufffdwo\r\nthree", "four\n\ufffd", "fi\ufffdve"}));
}

// Long texts through the reader, cut and uncut, with bad bytes everywhere.
TEST(BadLines, CutsOfALongTextMakeNoDifference) {
  const test::TemporaryFolder folder;
  std::string text, mended, rest;
  for (int i = 0; text.size() < 900'000; ++i) {
    const std::string line = "line " + std::to_string(i) + " end\n";
    text += i % 7 == 0 ? "a\xff" + line : line;
    mended += i % 7 == 0 ? "a\ufffd" + line : line;
    if (i % 7 != 0) rest += line;
  }
  const std::string path = folder.write("a.txt", text);
  for (const bool may_cut : {false, true}) {
    for (const OnBadLine on_bad_line : {OnBadLine::kSkip, OnBadLine::kReplace}) {
      DocumentReader reader({path}, {.may_cut = may_cut, .on_bad_line = on_bad_line});
      std::string got;
      size_t n_blocks = 0;
      for (TextBlock block; reader.next(&block); ++n_blocks) {
        for (const std::string& part : outcome(block, reader.options()).texts) got += part;
      }
      EXPECT_TRUE(got == (on_bad_line == OnBadLine::kSkip ? rest : mended));
      EXPECT_EQ(n_blocks > 2, may_cut && on_bad_line == OnBadLine::kReplace);
    }
  }
}

TEST(BadLines, NotesAddUp) {
  LineNotes all;
  all.add({.skipped = 2, .first_skipped = "a"});
  all.add(
      {.skipped = 1, .replaced = 3, .odd = 4, .first_skipped = "b", .first_replaced = "c", .first_odd = "d"});
  EXPECT_EQ(all.skipped, 3);
  EXPECT_EQ(all.replaced, 3);
  EXPECT_EQ(all.odd, 4);
  EXPECT_EQ(all.first_skipped + all.first_replaced + all.first_odd, "acd");
}

}  // namespace
}  // namespace sepllm
