// Texts encoded in parts have the ids of the whole text, for every tokenizer that promises it.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "base/file.h"
#include "base/rng.h"
#include "model/random_model.h"
#include "tests/support/support.h"
#include "text/steps/word_scanners.h"
#include "text/tokenizer.h"

namespace sepllm {
namespace {

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

// Encodes `text` cut at every place where it may be cut, or at some of them.
std::vector<int32_t> in_parts(const Tokenizer& tokenizer, const std::string& text, const Rng* rng) {
  std::vector<int32_t> out;
  size_t begin = 0;
  const auto part = [&](size_t end) {
    const auto ids = tokenizer.encode(std::string_view(text).substr(begin, end - begin),
                                      {.parse_special = true, .continues = begin > 0});
    out.insert(out.end(), ids.begin(), ids.end());
    begin = end;
  };
  for (size_t at = 1; at < text.size(); ++at) {
    const bool cut = (text[at] == '\n' || text[at] == '\r') && is_letter(text[at - 1]);
    if (cut && (rng == nullptr || rng->uniform(at) < 0.3)) part(at);
  }
  part(text.size());
  return out;
}

// Random texts from pieces that tokenizers treat in special ways.
std::string random_text(const Rng& rng, uint64_t length) {
  static const std::vector<std::string> bits = {
      "a",     "word", " word",     "\n",       "\n", "\r\n",          "\r",
      " ",     "  ",   "\t",        "'s",       "'",  "x'll",          "1",
      "12345", "é",    "e\xCC\x81", ".",        "!?", "<|endoftext|>", "</s>",
      "<s>",   "中",   "\xC2\xA0",  "\n\n",     "Z",  "ſ\n",           "\xE2\x96\x81",
      "    ",  "\v",   "I'm",       "<|begin|>"};
  std::string out;
  for (uint64_t k = 0; k < length; ++k) {
    out += bits[static_cast<size_t>(rng.uniform(k) * static_cast<double>(bits.size()))];
  }
  return out;
}

void expect_cuts(const Tokenizer& tokenizer, const std::string& book) {
  ASSERT_TRUE(tokenizer.cuts_before_line_break());
  EXPECT_EQ(in_parts(tokenizer, book, nullptr), tokenizer.encode(book));
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    const Rng rng(seed);
    const std::string text = random_text(rng, 5 + seed);
    EXPECT_EQ(in_parts(tokenizer, text, nullptr), tokenizer.encode(text)) << seed;
    EXPECT_EQ(in_parts(tokenizer, text, &rng), tokenizer.encode(text)) << seed;
  }
}

TEST(CutText, TheByteTokenizerOfRandomModels) {
  const test::TemporaryFolder folder;
  write_random_model(folder.file("model"), {});
  expect_cuts(*load_tokenizer(folder.file("model")), "One line\nand another\r\n\r\nthe end\n");
}

TEST(CutText, TheEmbeddedModelsTokenizer) {
  SEPLLM_EMBEDDED_MODEL_OR_SKIP(model);
  expect_cuts(*load_tokenizer(model), read_file(test::demo_text_file()));
}

TEST(CutText, PublishedTokenizers) {
  SEPLLM_DATA_OR_SKIP(data);
  std::vector<std::string> books;
  for (const auto& entry : std::filesystem::directory_iterator(data + "/text/pg19/test"))
    books.push_back(entry.path());
  const std::string book = read_file(*std::min_element(books.begin(), books.end()));
  for (const char* name : {"tokenizers/gpt-neox-20b", "tokenizers/gpt2", "tokenizers/falcon",
                           "tokenizers/llama3/tokenizer.model", "tokenizers/llama2/tokenizer.model",
                           "weights/stories260k/tok512.bin"}) {
    SCOPED_TRACE(name);
    expect_cuts(*load_tokenizer(data + "/" + name, std::string(name).ends_with(".bin") ? 512 : 0), book);
  }
}

// A changed copy of a random model's tokenizer.json, in `folder`.
std::unique_ptr<Tokenizer> changed_tokenizer(const test::TemporaryFolder& folder, const Json& change) {
  write_random_model(folder.file("model"), {});
  const std::string path = folder.file("model") + "/tokenizer.json";
  Json json = parse_json(read_file(path), path);
  json.merge_patch(change);
  return load_tokenizer(folder.write("changed.json", json.dump()));
}

TEST(CutText, AByteLevelBlankGoesBeforeTheTextAndNotBeforeItsParts) {
  const test::TemporaryFolder folder;
  const Json blank = {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}};
  const Json digits = {{"type", "Digits"}, {"individual_digits", true}};
  const Json words = {
      {"type", "Split"}, {"pattern", {{"Regex", kGpt2Pattern}}}, {"behavior", "Isolated"}, {"invert", false}};
  Json bytes = blank;
  bytes["use_regex"] = false;
  const auto sequence = [](const Json& steps) {
    return Json{{"type", "Sequence"},
                {"pretokenizers", steps},
                {"add_prefix_space", nullptr},
                {"trim_offsets", nullptr},
                {"use_regex", nullptr}};
  };
  const Json runs = {{"type", "Whitespace"}};
  const Json no_space = {{"type", "WhitespaceSplit"}};
  const Json bert = {{"type", "BertPreTokenizer"}};
  for (const Json& steps :
       {Json::array({blank}), Json::array({digits, blank}), Json::array({words, bytes}),
        Json::array({runs, bytes}), Json::array({no_space, blank}), Json::array({bert, blank})}) {
    SCOPED_TRACE(steps.dump());
    expect_cuts(*changed_tokenizer(folder, {{"pre_tokenizer", sequence(steps)}}),
                "One\nand another\r\n\r\nthe end\n");
  }
  // After a token that ends in a letter there is a blank again, cut or not.
  const Json added = {{"id", 300}, {"content", "end"}, {"special", true}};
  const Json change = {{"pre_tokenizer", sequence(Json::array({blank}))}, {"added_tokens", {added}}};
  EXPECT_FALSE(changed_tokenizer(folder, change)->cuts_before_line_break());

  // The same with GPT-2's two files.
  const std::string path = folder.file("model") + "/tokenizer.json";
  folder.write("vocab.json", parse_json(read_file(path), path).at("model").at("vocab").dump());
  folder.write("merges.txt", "#version: 0.2\n");
  folder.write("tokenizer_config.json", R"({"add_prefix_space": true})");
  expect_cuts(*load_tokenizer(folder.file("vocab.json")), "One\nand another\r\n\r\nthe end\n");
  folder.write("added_tokens.json", R"({"end": 300})");
  EXPECT_FALSE(load_tokenizer(folder.file("vocab.json"))->cuts_before_line_break());
}

TEST(CutText, WhereATokenReachesOverTheLineBreakItIsNotCut) {
  const test::TemporaryFolder folder;
  const auto with = [&](const Json& change) { return changed_tokenizer(folder, change); };
  EXPECT_TRUE(with({{"normalizer", {{"type", "NFC"}}}})->cuts_before_line_break());
  EXPECT_TRUE(with({{"normalizer", {{"type", "StripAccents"}}}})->cuts_before_line_break());
  for (const Json& changing :
       {Json{{"type", "Prepend"}, {"prepend", "_"}}, Json{{"type", "Nmt"}}, Json{{"type", "ByteLevel"}},
        Json{{"type", "BertNormalizer"}, {"clean_text", true}}}) {
    EXPECT_FALSE(with({{"normalizer", changing}})->cuts_before_line_break()) << changing;
  }
  EXPECT_FALSE(with({{"pre_tokenizer", nullptr}})->cuts_before_line_break());
  const Json added = {{"id", 300},       {"content", "end\n"},  {"single_word", false}, {"lstrip", false},
                      {"rstrip", false}, {"normalized", false}, {"special", true}};
  EXPECT_FALSE(with({{"added_tokens", {added}}})->cuts_before_line_break());
  Json taking = added;
  taking["content"] = "end";
  EXPECT_TRUE(with({{"added_tokens", {taking}}})->cuts_before_line_break());
  taking["rstrip"] = true;
  EXPECT_FALSE(with({{"added_tokens", {taking}}})->cuts_before_line_break());
}

}  // namespace
}  // namespace sepllm
