#include "text/formats/llama2c_tokenizer.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "tests/support/support.h"

namespace sepllm {
namespace {

using Pieces = std::vector<std::pair<std::string, float>>;
using Ids = std::vector<int32_t>;

// A file as llama2.c's exporter writes it: specials, bytes, then `pieces`.
std::string file_bytes(const Pieces& pieces) {
  Pieces all = {{"<unk>", 0}, {"\n<s>\n", 0}, {"\n</s>\n", 0}};
  for (int byte = 0; byte < 256; ++byte) all.emplace_back(fmt::format("<0x{:02X}>", byte), 0.0F);
  all.insert(all.end(), pieces.begin(), pieces.end());
  std::string out;
  const auto put = [&](const auto& value) {
    out.append(reinterpret_cast<const char*>(&value), sizeof(value));
  };
  int32_t longest = 0;
  for (const auto& [text, score] : all) longest = std::max(longest, static_cast<int32_t>(text.size()));
  put(longest);
  for (const auto& [text, score] : all) {
    put(score);
    put(static_cast<int32_t>(text.size()));
    out += text;
  }
  return out;
}

const Pieces kSmall = {{" ", -9}, {"a", -8}, {"b", -7}, {"ab", -1}, {" a", -2}, {"ba", -1}, {"aba", -3}};

std::unique_ptr<Tokenizer> load(const Pieces& pieces, int64_t config_vocab_size = 0) {
  const test::TemporaryFolder folder;
  return load_llama2c(folder.write("tok.bin", file_bytes(pieces)), config_vocab_size);
}

// The rule of llama2.c, taken literally: each merge looks at all pairs.
Ids encode_slowly(const Pieces& pieces, const std::string& text) {
  std::map<std::string, int32_t> ids;
  for (size_t k = 0; k < pieces.size(); ++k) ids.emplace(pieces[k].first, static_cast<int32_t>(259 + k));
  Ids out;
  for (const char c : " " + text) {  // ASCII only
    const auto it = ids.find(std::string(1, c));
    out.push_back(it != ids.end() ? it->second : 3 + static_cast<unsigned char>(c));
  }
  const auto text_of = [&](int32_t id) {
    return id < 259 ? fmt::format("<{}>", id) : pieces[static_cast<size_t>(id - 259)].first;
  };
  for (;;) {
    float best = -1e10F;
    size_t at = 0;
    int32_t merged = -1;
    for (size_t k = 0; k + 1 < out.size(); ++k) {
      const auto it = ids.find(text_of(out[k]) + text_of(out[k + 1]));
      if (it == ids.end()) continue;
      const float score = pieces[static_cast<size_t>(it->second - 259)].second;
      if (score > best) {
        best = score;
        at = k;
        merged = it->second;
      }
    }
    if (merged < 0) return out;
    out[at] = merged;
    out.erase(out.begin() + static_cast<int64_t>(at) + 1);
  }
}

TEST(Llama2cTokenizer, MergesTheBestPairFirstAndTheLeftmostOfEquals) {
  const auto tokenizer = load(kSmall);
  EXPECT_EQ(tokenizer->encode(""), Ids{});
  // " aba": "ab" and "ba" tie at -1, the left one wins; then "aba" is made of "ab" and "a".
  EXPECT_EQ(tokenizer->encode("aba"), (Ids{259, 265}));
  EXPECT_EQ(tokenizer->encode("a", {.add_special = true}), (Ids{1, 263}));
  EXPECT_EQ(tokenizer->encode("é"), (Ids{259, 3 + 0xC3, 3 + 0xA9}));
}

TEST(Llama2cTokenizer, EqualsTheQuadraticRuleOnRandomTexts) {
  std::mt19937 rng(7);
  const auto pick = [&](int n) { return static_cast<int>(rng() % static_cast<unsigned>(n)); };
  for (int round = 0; round < 60; ++round) {
    // Some vocabularies have pieces with a blank inside, so that a text cannot be cut into words.
    const std::string letters = round % 2 == 0 ? "abc" : "ab ";
    Pieces pieces = {{" ", -20}, {"a", -20}, {"b", -20}};
    std::map<std::string, int> seen = {{" ", 0}, {"a", 0}, {"b", 0}};
    for (int k = 0; k < 25; ++k) {
      std::string text;
      const int length = 2 + pick(4);
      for (int c = 0; c < length; ++c) text += letters[static_cast<size_t>(pick(3))];
      if (seen.emplace(text, 0).second) pieces.emplace_back(text, static_cast<float>(-pick(6)));
    }
    const auto tokenizer = load(pieces);
    for (int k = 0; k < 20; ++k) {
      std::string text;
      const int length = 1 + pick(60);
      for (int c = 0; c < length; ++c) text += "ab c"[pick(4)];
      EXPECT_EQ(tokenizer->encode(text), encode_slowly(pieces, text)) << "'" << text << "'";
      EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text);
    }
  }
}

TEST(Llama2cTokenizer, LongWordsTakeNoQuadraticTime) {
  const auto tokenizer = load(kSmall);
  const std::string word(4'000'000, 'a');
  EXPECT_EQ(tokenizer->encode(word).size(), 4'000'000U);  // " a", then single letters
}

TEST(Llama2cTokenizer, DecodesBytesAndDropsTheBlankAtTheStart) {
  const auto tokenizer = load(kSmall);
  EXPECT_EQ(tokenizer->decode({263, 263}), "a a");
  EXPECT_EQ(tokenizer->decode({1, 263, 263}), "<s>a a");
  EXPECT_EQ(tokenizer->decode({1, 263, 263}, true), "a a");
  EXPECT_EQ(tokenizer->decode({3 + 0xC3, 3 + 0xA9, 2}, true), "é");
  EXPECT_EQ(tokenizer->token_bytes(263), " a");
  EXPECT_EQ(tokenizer->token_bytes(3 + 0x0A), "\n");
  EXPECT_EQ(tokenizer->piece(3 + 0x0A), "<0x0A>");
  EXPECT_EQ(tokenizer->token_bytes(-1), "");
  EXPECT_EQ(tokenizer->token_bytes(266), "");
  EXPECT_EQ(tokenizer->find("</s>"), 2);
  EXPECT_EQ(tokenizer->find("aba"), 265);
  EXPECT_EQ(tokenizer->find("nothing"), std::nullopt);
  EXPECT_EQ(tokenizer->vocab_size(), 266);
}

TEST(Llama2cTokenizer, RefusesInvalidUtf8) {
  const auto tokenizer = load(kSmall);
  try {
    tokenizer->encode("ab\xFF");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kInvalidArgument);
    EXPECT_NE(std::string(e.what()).find("byte 2"), std::string::npos);
  }
}

TEST(Llama2cTokenizer, RefusesBadFiles) {
  EXPECT_THROW(load_llama2c("no/such/file.bin", 0), Error);
  const std::string good = file_bytes(kSmall);
  EXPECT_THROW(load(kSmall, 267), Error);
  EXPECT_NO_THROW(load(kSmall, 266));
  EXPECT_THROW(load({{"a", std::nanf("")}}), Error);
  // if the model's size is known, even a cut between tokens is detected
  for (size_t n = 0; n < good.size(); ++n) {
    EXPECT_THROW(parse_llama2c(good.substr(0, n), "cut.bin", 266), Error) << n;
  }
  for (size_t at = 0; at < good.size(); ++at) {  // any byte wrong: an Error, or a tokenizer that works
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 0xFF);
    try {
      const auto tokenizer = parse_llama2c(bad, "bad.bin", 0);
      tokenizer->decode(tokenizer->encode("ab abab \n é"));
    } catch (const Error&) {
    }
  }
}

TEST(Llama2cTokenizer, Stories260kTextIsEncodedToItsGoldenIds) {
  SEPLLM_DATA_OR_SKIP(data);
  const auto tokenizer = load_llama2c(data + "/weights/stories260k/tok512.bin", 512);
  const std::string text = read_file(data + "/expected/stories260k_greedy_256.txt");
  const Json golden = parse_json(read_file(data + "/derived/stories260k_golden.json"), "golden");
  const auto expected = golden.at("ids_with_bos").get<Ids>();
  EXPECT_EQ(tokenizer->decode(expected, true), text);
  EXPECT_EQ(tokenizer->encode(text, {.add_special = true}), expected);
}

}  // namespace
}  // namespace sepllm
