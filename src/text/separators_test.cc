#include "text/separators.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "tests/support/fake_tokenizer.h"
#include "tests/support/support.h"
#include "text/formats/sentencepiece_tokenizer.h"

namespace sepllm {
namespace {

using Ids = std::vector<int32_t>;
using test::FakeTokenizer;

// Whether a token with this text is a separator under `rule`.
bool is_separator(const std::string& token, const std::string& rule = "text") {
  return make_separators(FakeTokenizer({token}), rule, 1, false).contains(0);
}

TEST(Separators, TextRuleFindsMarksAtTheEnd) {
  for (const char* token : {".",  ",",  "?",  "!",  ";", ":", "…", "。", "，", "、", "？",
                            "！", "；", "：", "．", "،", "؛", "؟", "۔",  "।",  "॥"}) {
    EXPECT_TRUE(is_separator(token)) << token;
    EXPECT_TRUE(is_separator(std::string(" ") + token)) << token;
    EXPECT_TRUE(is_separator(std::string(token) + " \n")) << token;
    EXPECT_TRUE(is_separator(std::string("word") + token)) << token;
    EXPECT_FALSE(is_separator(std::string(token) + "word")) << token;
  }
}

TEST(Separators, TextRuleLooksBehindClosingCharacters) {
  for (const char* closer : {"\"", "'", ")", "]", "}", "’", "”", "»", "」", "』", "）", "】", "》"}) {
    EXPECT_TRUE(is_separator(std::string(".") + closer)) << closer;
    EXPECT_TRUE(is_separator(std::string("?") + closer + closer + "\n\n")) << closer;
    EXPECT_FALSE(is_separator(closer)) << closer;
    EXPECT_FALSE(is_separator(std::string("a") + closer)) << closer;
  }
  EXPECT_FALSE(is_separator(".("));
  EXPECT_FALSE(is_separator(". \""));  // a blank between
}

TEST(Separators, TextRuleTakesBlanks) {
  for (const char* token :
       {" ", "    ", "\n", "\n\n", "\t", "\r\n", "\u00A0", "\u2003", "\u3000", "\u0085"}) {
    EXPECT_TRUE(is_separator(token));
  }
  EXPECT_FALSE(is_separator("\u200B"));  // a zero width space does not count as White_Space
}

TEST(Separators, TextRuleLeavesOutTheRest) {
  for (const char* token : {"", "a", " the", "-", "(", "'s", "3", "\xE2\x80", "\xFF", ".\xC3"}) {
    EXPECT_FALSE(is_separator(token)) << token;
  }
  FakeTokenizer tokenizer({".", ".", "!"});
  tokenizer.make_special(1);
  const TokenSet set = make_separators(tokenizer, "text", 10, false);  // more rows than tokens
  EXPECT_EQ(set.ids(), (Ids{0, 2}));
  EXPECT_EQ(set.vocab_size(), 10);
  EXPECT_EQ(make_separators(tokenizer, "text", 1, false).ids(), Ids{0});  // fewer rows than tokens
}

TEST(Separators, StringsReplaceTheMarks) {
  EXPECT_TRUE(is_separator(" a.", "strings:.#"));
  EXPECT_TRUE(is_separator("#)", "strings:.#"));
  EXPECT_FALSE(is_separator(",", "strings:.#"));
  EXPECT_TRUE(is_separator(",", "strings:,.")) << "a comma does not part the list";
  EXPECT_FALSE(is_separator("\n", "strings:."));
  EXPECT_TRUE(is_separator("\n", "strings:.\n"));
  EXPECT_TRUE(is_separator(".\n", "strings:.\n"));
  EXPECT_TRUE(is_separator("word\n ", "strings:\n"));
  EXPECT_FALSE(is_separator("  ", "strings:\n"));
  EXPECT_TRUE(is_separator("a)", "strings:)"));
  EXPECT_TRUE(is_separator("終", "strings:終"));
}

TEST(Separators, IdsAreTakenAsTheyAre) {
  EXPECT_EQ(separators_from_ids("ids:7,3,7", 8).ids(), (Ids{3, 7}));
  EXPECT_EQ(make_separators(FakeTokenizer({"a"}), "ids:0", 8, false).ids(), Ids{0});
  EXPECT_FALSE(separators_need_tokenizer("ids:1"));
  EXPECT_TRUE(separators_need_tokenizer("text"));
  for (const char* bad :
       {"ids:", "ids:8", "ids:-1", "ids:1,", "ids:1 ,2", "ids:x", "ids:99999999999999999999"}) {
    EXPECT_THROW(separators_from_ids(bad, 8), Error) << bad;
  }
}

TEST(Separators, RulesAreJoinedByPlus) {
  FakeTokenizer tokenizer({"a", ".", "<s>", "+", "b"});
  tokenizer.make_special(2);
  const auto ids = [&](const std::string& rule) { return make_separators(tokenizer, rule, 5, false).ids(); };
  EXPECT_EQ(ids("special"), Ids{2});
  EXPECT_EQ(ids("text+special"), (Ids{1, 2}));
  EXPECT_EQ(ids("special+ids:0,4"), (Ids{0, 2, 4}));
  EXPECT_EQ(ids("special+strings:+a"), (Ids{0, 2, 3}));
  EXPECT_EQ(separators_from_ids("ids:1+ids:3", 5).ids(), (Ids{1, 3}));
  EXPECT_FALSE(separators_need_tokenizer("ids:1+ids:3"));
  EXPECT_TRUE(separators_need_tokenizer("ids:1+special"));
  for (const char* bad : {"text+", "+text", "text+nosuch", "text special"})
    EXPECT_THROW(ids(bad), Error) << bad;
}

TEST(Separators, WrongRulesAreErrors) {
  const FakeTokenizer tokenizer({"."});
  for (const char* bad : {"", "txt", "strings:", "strings:\xFF", "paper"}) {
    try {
      make_separators(tokenizer, bad, 1, false);
      FAIL() << bad;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kInvalidArgument);
    }
  }
}

// A vocabulary with the texts of the NeoX list in their places.
FakeTokenizer neox_like() {
  std::vector<std::string> texts(50277, "x");
  const std::map<int, std::string> list = {
      {15, "."},    {13, ","},     {32, "?"},     {2, "!"},     {28, ";"},      {27, ":"},     {209, " "},
      {186, "\t"},  {187, "\n"},   {964, " ."},   {1157, " ,"}, {3736, " ?"},   {2195, " !"},  {3706, " ;"},
      {1163, " :"}, {2490, " \n"}, {50276, "  "}, {586, "\n "}, {4928, " \n "}, {50275, "   "}};
  for (const auto& [id, text] : list) texts[static_cast<size_t>(id)] = text;
  return FakeTokenizer(texts);
}

TEST(Separators, PaperListsDependOnTheTokenizerAndOnStreaming) {
  const FakeTokenizer neox = neox_like();
  EXPECT_EQ(make_separators(neox, "paper", 50304, false).ids(), (Ids{2, 13, 15, 27, 28, 32, 186, 187, 209}));
  const TokenSet streaming = make_separators(neox, "paper", 50304, true);
  EXPECT_EQ(streaming.size(), 20);
  EXPECT_TRUE(streaming.contains(50276));
  // The same texts in a model with too few rows, or one text in another place: it is not the reference's
  // tokenizer.
  EXPECT_THROW(make_separators(neox, "paper", 200, false), Error);
  FakeTokenizer other = neox;
  other.set_text(186, "z");
  EXPECT_THROW(make_separators(other, "paper", 50304, false), Error);
}

TEST(Separators, Llama2HasTheExpectedTextSeparators) {
  SEPLLM_DATA_OR_SKIP(data);
  const auto tokenizer = load_sentencepiece(data + "/tokenizers/llama2/tokenizer.model");
  const TokenSet set = make_separators(*tokenizer, "text", 32000, false);
  for (const char* piece : {".", "▁.", ",", "?", ":", "▁", "▁▁", "<0x0A>", "<0x2E>", ".\"", ".)", "。"}) {
    ASSERT_TRUE(tokenizer->find(piece)) << piece;
    EXPECT_TRUE(set.contains(*tokenizer->find(piece))) << piece;
  }
  for (const char* piece : {"<s>", "▁the", "<0xE2>", "-", "\"", "▁("}) {
    ASSERT_TRUE(tokenizer->find(piece)) << piece;
    EXPECT_FALSE(set.contains(*tokenizer->find(piece))) << piece;
  }
  EXPECT_THROW(make_separators(*tokenizer, "paper", 32000, false), Error);
}

// The reference's ids in the real tokenizers: their texts, and how they compare with the text rule.
struct RealTokenizer {
  const char* path;
  int64_t rows;
  Ids paper;
  Ids streaming;  // in addition
};

TEST(Separators, PaperIdsOfTheRealTokenizersAreAllTextSeparators) {
  SEPLLM_DATA_OR_SKIP(data);
  const std::vector<RealTokenizer> all = {
      {"llama3/tokenizer.model",
       128256,
       {0, 11, 13, 25, 26, 30, 198, 220, 256, 262, 551, 662, 720, 758, 949, 1174, 2652},
       {}},
      {"gpt-neox-20b/tokenizer.json",
       50304,
       {2, 13, 15, 27, 28, 32, 186, 187, 209},
       {586, 964, 1157, 1163, 2195, 2490, 3706, 3736, 4928, 50275, 50276}},
      {"falcon/tokenizer.json", 65024, {12, 23, 25, 37, 38, 42, 193, 204, 258, 466, 1212, 4610, 23787}, {}},
      {"gpt2/tokenizer.json",
       50257,
       {0, 11, 13, 25, 26, 30, 197, 198, 220, 764, 837, 1058, 2162, 5145, 5633},
       {}}};
  for (const RealTokenizer& real : all) {
    const auto tokenizer = load_tokenizer(data + "/tokenizers/" + real.path);
    EXPECT_EQ(make_separators(*tokenizer, "paper", real.rows, false).ids(), real.paper) << real.path;
    Ids streaming = real.paper;
    streaming.insert(streaming.end(), real.streaming.begin(), real.streaming.end());
    std::sort(streaming.begin(), streaming.end());
    EXPECT_EQ(make_separators(*tokenizer, "paper", real.rows, true).ids(), streaming) << real.path;
    const TokenSet text = make_separators(*tokenizer, "text", real.rows, false);
    for (const int32_t id : streaming) EXPECT_TRUE(text.contains(id)) << real.path << " " << id;
    EXPECT_GT(text.size(), static_cast<int64_t>(5 * streaming.size())) << real.path;
    const std::string book = read_file(data + "/text/pg19/test/10146.txt");
    const Ids ids = tokenizer->encode(book);
    const TokenSet paper = make_separators(*tokenizer, "paper", real.rows, false);
    const auto share = [&](const TokenSet& set) {
      const auto n = std::count_if(ids.begin(), ids.end(), [&](int32_t id) { return set.contains(id); });
      return static_cast<double>(n) / static_cast<double>(ids.size());
    };
    // On a book, the lists miss some of the separators that the text rule finds (., \n\n, ." and the like).
    EXPECT_GT(share(text), share(paper)) << real.path;
    EXPECT_LT(share(text), 1.25 * share(paper)) << real.path;
  }
}

}  // namespace
}  // namespace sepllm
