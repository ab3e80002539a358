// Which files are read and how, and what messages say about the others: kind x packing x name.
#include "text/corpus/input_form.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/file_kind.h"
#include "base/json.h"
#include "base/log.h"
#include "tests/support/expect_error.h"
#include "tests/support/packed.h"
#include "tests/support/support.h"
#include "text/corpus/document_reader.h"

namespace sepllm {
namespace {

using test::expect_error;
using Texts = std::vector<std::string>;

Texts read_documents(const std::string& file, const DocumentOptions& options = {}) {
  DocumentReader reader({file}, options);
  Texts all;
  for (TextBlock block; reader.next(&block);) {
    for_each_document(block, options, [&](const DocumentPart& part) { all.emplace_back(part.text); });
  }
  return all;
}

std::vector<std::string> warnings_while(const std::function<void()>& run) {
  std::vector<std::string> lines;
  LogSink old = set_log_sink([&](LogLevel, const std::string& text) { lines.push_back(text); });
  run();
  set_log_sink(std::move(old));
  return lines;
}

TEST(InputForm, NamesInEitherCasePackedOrNot) {
  const test::TemporaryFolder folder;
  const Texts contents = {"{\"text\": \"one\"}\n{\"text\": \"two, [\\\"2\\\"]\"}\n",
                          "[\n {\n  \"text\": \"one\"\n },\n {\n  \"text\": \"two, [\\\"2\\\"]\"\n }\n]\n",
                          "[{\"text\": \"one\"}, {\"text\": \"two, [\\\"2\\\"]\"}]",
                          "\xef\xbb\xbf[{\"text\":\"one\"},{\"text\":\"two, [\\\"2\\\"]\"}]",
                          "\xef\xbb\xbf{\"text\": \"one\"}\r\n{\"text\": \"two, [\\\"2\\\"]\"}\r\n"};
  for (const std::string& content : contents) {
    for (const char* name :
         {"a.jsonl", "a.JSONL", "a.Jsonl", "a.ndjson", "a.NDJSON", "a.json", "a.jsonlines"}) {
      for (const char* ending : {"", ".gz", ".GZ", ".gzip"}) {
        const std::string path = folder.write(std::string(name) + ending, test::gzip(content));
        EXPECT_EQ(read_documents(path), (Texts{"one", "two, [\"2\"]"})) << path;
      }
      for (const char* ending : {"", ".zst", ".Zst", ".zstd"}) {
        const std::string path = folder.write(std::string(name) + ending, test::zstd(content));
        EXPECT_EQ(read_documents(path), (Texts{"one", "two, [\"2\"]"})) << path;
      }
      EXPECT_EQ(read_documents(folder.write(name, content)), (Texts{"one", "two, [\"2\"]"})) << name;
    }
    // The declared form counts, whatever the file's name.
    const std::string path = folder.write("a.txt", content);
    EXPECT_EQ(read_documents(path, {.format = DocumentFormat::kJsonLines}), (Texts{"one", "two, [\"2\"]"}));
    EXPECT_EQ(read_documents(path, {.format = DocumentFormat::kText}), Texts{content});
  }
}

TEST(InputForm, TextThatLooksLikeSomethingElseIsWarnedOf) {
  const test::TemporaryFolder folder;
  const auto warnings = [&](const std::string& content, DocumentFormat format = DocumentFormat::kAuto) {
    const std::string path = folder.write("a.txt", content);
    return warnings_while([&] { EXPECT_EQ(read_documents(path, {.format = format}), Texts{content}); });
  };
  for (const char* json : {"{\"text\": \"one\"}\n", "\n {\n \"text\": 1}", "[{\"text\": \"one\"}]"}) {
    ASSERT_EQ(warnings(json).size(), 1U) << json;
    EXPECT_NE(warnings(json)[0].find(option_name("format") + " jsonl"), std::string::npos);
    EXPECT_EQ(warnings(json, DocumentFormat::kText).size(), 0U);
  }
  for (const char* page : {"<!DOCTYPE html><html>", "\n<HTML>", "<?xml version=\"1.0\"?><a/>"}) {
    ASSERT_EQ(warnings(page).size(), 1U) << page;
    EXPECT_NE(warnings(page)[0].find("a.txt: looks like"), std::string::npos);
    EXPECT_EQ(warnings(page, DocumentFormat::kText).size(), 0U);
  }
  for (const char* text : {"plain", "[1] A note", "{ a set }", "", "\xef\xbb\xbfplain", "<b>bold</b>"}) {
    if (*text == '\0') continue;  // not a document
    EXPECT_EQ(warnings(text), Texts()) << text;
  }
}

// Every kind that is not text, as its own tools write it, under names of each sort, packed again or not.
TEST(InputForm, OtherKindsAreCalledByTheirNames) {
  const test::TemporaryFolder folder;
  const std::string golden = std::string(SEPLLM_SOURCE_DIR) + "/tests/golden/file_kinds/starts.json";
  const Json all = parse_json(read_file(golden), golden);
  int n_kinds = 0;
  for (const auto& [name, entries] : all.items()) {
    const bool text = name == "kUnknown" || name == "kEmpty" || name == "kJson";
    const bool page = name == "kHtml" || name == "kXml";
    const bool unpacked = name == "kGzip" || name == "kZstd";
    if (text) continue;
    for (const Json& entry : entries) {
      std::string start;
      for (const std::string hex = entry[1].get<std::string>(); start.size() < hex.size() / 2;) {
        start += static_cast<char>(std::stoi(hex.substr(2 * start.size(), 2), nullptr, 16));
      }
      const Texts kind = {file_kind_name(file_kind(start)), "which is not read"};
      for (const char* file : {"a", "a.txt", "a.jsonl", "A.JSON"}) {
        if (page && std::string(file).find(".json") == std::string::npos && file[0] == 'a') continue;
        SCOPED_TRACE(name + ": " + entry[0].get<std::string>() + ": " + file);
        const auto refused = [&](const std::string& content, const std::string& ending) {
          const std::string path = folder.write(file + ending, content);
          expect_error([&] { read_documents(path); }, ErrorCode::kUnsupported, {path, kind[0], kind[1]});
        };
        if (!unpacked) refused(start, "");
        refused(test::gzip(start), ".gz");
        refused(test::zstd(start), "");
      }
    }
    ++n_kinds;
  }
  EXPECT_GE(n_kinds, 25);
}

TEST(InputForm, TheLastOfManyFilesIsLookedAtFirst) {
  const test::TemporaryFolder folder;
  const std::string good = folder.write("good.txt", "text"),
                    json = folder.write("lines", "{\"text\": \"a\"}"), pipe = folder.file("pipe");
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);  // not opened: there is no writer
  const auto check = [&](const std::string& last) {
    DocumentReader({good, json, pipe, last}, {}).check_files();
  };
  expect_error([&] { check(folder.write("a.pdf", "%PDF-1.7\n")); }, ErrorCode::kUnsupported,
               {"a.pdf", "a PDF"});
  expect_error([&] { check(folder.file("missing")); }, ErrorCode::kNotFound, {"missing"});
  expect_error([&] { check(folder.path()); }, ErrorCode::kIo, {"folder"});
  DocumentReader reader({good, json}, {});
  TextBlock block;
  const auto all = [&] {
    reader.check_files();
    std::string text;
    while (reader.next(&block)) text += block.bytes;
    EXPECT_EQ(text, "text{\"text\": \"a\"}");
  };
  EXPECT_EQ(warnings_while(all).size(), 1U);
}

TEST(InputForm, WhatToDoWithOtherKinds) {
  const test::TemporaryFolder folder;
  const auto says = [&](const std::string& name, const std::string& content, const std::string& part,
                        DocumentFormat format = DocumentFormat::kAuto) {
    const std::string path = folder.write(name, content);
    expect_error([&] { read_documents(path, {.format = format}); }, ErrorCode::kUnsupported, {name, part});
  };
  const std::string xz("\xfd\x37zXZ\0\0\4", 8), utf16("\xff\xfe{\0\"\0", 6);
  says("a.jsonl.xz", xz, "a.jsonl.xz' | sepllm prepare --format jsonl ... /dev/stdin");
  says("A.JSONL.XZ", xz, "--format jsonl");
  says("a.txt.xz", xz, "xz -dc '");
  says("a.txt.xz", xz, "--format text");
  says("a.txt.xz", xz, "xz -dc '", DocumentFormat::kText);  // declared as text or not
  says("a.txt", utf16, "iconv -f UTF-16 -t UTF-8 '");
  says("a.parquet", "PAR1\x15\x04", "pandas.read_parquet(");
  says("a.jsonl", "version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 9\n", "git lfs pull");
  says("a.jsonl.gz", test::gzip(test::gzip("{}")), "packed more than once");
  // Plain letters are text if the user says so.
  for (const char* letters : {"PAR1 is a gene.", "%PDF-1.7 begins such a file.", "GIF89a was a format."}) {
    EXPECT_EQ(read_documents(folder.write("a.txt", letters), {.format = DocumentFormat::kText}),
              Texts{letters});
    says("a.txt", letters, "this is a");
    says("a.txt", letters, "this is a", DocumentFormat::kJsonLines);
  }
  expect_error([&] { read_documents(folder.write("a.gz", xz)); }, ErrorCode::kBadFile,
               {"gzip, as its name says", "a file packed by xz"});
  expect_error([&] { read_documents(folder.write("a.ZSTD", "text")); }, ErrorCode::kBadFile,
               {"zstd, as its name says", "rename"});
}

}  // namespace
}  // namespace sepllm
