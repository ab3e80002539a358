#include "text/formats/sentencepiece_tokenizer.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sentencepiece_processor.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <memory>
#include <optional>
#include <random>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "tests/support/support.h"
#include "text/formats/llama2c_tokenizer.h"

namespace sepllm {
namespace {

using Ids = std::vector<int32_t>;
using Type = SentencePieceModel::Type;

struct ModelPiece {
  std::string text;
  float score;
  Type type = Type::kNormal;
};

std::string varint(uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  return out + static_cast<char>(value);
}
std::string flag_field(int number, uint64_t value) {
  return varint(static_cast<uint64_t>(number) << 3) + varint(value);
}
std::string bytes_field(int number, const std::string& bytes) {
  return varint(static_cast<uint64_t>(number) << 3 | 2) + varint(bytes.size()) + bytes;
}
std::string piece_field(const ModelPiece& piece) {
  std::string score(4, '\0');
  std::memcpy(score.data(), &piece.score, 4);
  return bytes_field(1, bytes_field(1, piece.text) + varint(2 << 3 | 5) + score +
                            flag_field(3, static_cast<uint64_t>(piece.type)));
}

// A model file as SentencePiece's trainer writes it: specials, bytes, then `pieces` with a blank for each
// blank mark.
std::string model_file(const std::vector<ModelPiece>& pieces, const std::string& normaliser,
                       int algorithm = 2) {
  std::vector<ModelPiece> all = {
      {"<unk>", 0, Type::kUnknown}, {"<s>", 0, Type::kControl}, {"</s>", 0, Type::kControl}};
  for (int byte = 0; byte < 256; ++byte) all.push_back({fmt::format("<0x{:02X}>", byte), 0, Type::kByte});
  for (ModelPiece piece : pieces) {
    for (size_t at; (at = piece.text.find(' ')) != std::string::npos;) piece.text.replace(at, 1, "▁");
    all.push_back(piece);
  }
  std::string out;
  for (const ModelPiece& piece : all) out += piece_field(piece);
  out += bytes_field(2, flag_field(3, static_cast<uint64_t>(algorithm)) + flag_field(35, 1));
  return out + bytes_field(3, normaliser);
}

const std::string kPlain = bytes_field(1, "identity") + flag_field(3, 1) + flag_field(4, 0);
const std::string kTidying = bytes_field(1, "identity") + flag_field(3, 1) + flag_field(4, 1);

const std::vector<ModelPiece> kSmallModel = {{" ", -9},  {"a", -8},  {"b", -7},   {"ab", -1},
                                             {" a", -2}, {"ba", -1}, {"aba", -3}, {"é", -5}};

std::unique_ptr<Tokenizer> load(const std::string& bytes) {
  return parse_sentencepiece(bytes, "tokenizer.model");
}

Ids encode_by_library(const std::string& file, const std::string& text) {
  sentencepiece::SentencePieceProcessor processor;
  EXPECT_TRUE(processor.LoadFromSerializedProto(file).ok());
  Ids ids;
  EXPECT_TRUE(processor.Encode(text, &ids).ok());
  return ids;
}

TEST(SentencePieceTokenizer, EncodesAndDecodes) {
  const auto tokenizer = load(model_file(kSmallModel, kPlain));
  EXPECT_EQ(tokenizer->encode(""), Ids{});
  EXPECT_EQ(tokenizer->encode("aba"), (Ids{259, 265}));
  EXPECT_EQ(tokenizer->encode("a", {.add_special = true}), (Ids{1, 263}));
  EXPECT_EQ(tokenizer->encode("\n"), (Ids{259, 3 + 10}));
  EXPECT_EQ(tokenizer->token_bytes(263), " a");
  EXPECT_EQ(tokenizer->piece(263), "▁a");
  EXPECT_EQ(tokenizer->token_bytes(3 + 10), "\n");
  EXPECT_EQ(tokenizer->token_bytes(1), "<s>");
  EXPECT_EQ(tokenizer->token_bytes(267), "");
  EXPECT_EQ(tokenizer->decode({263, 263}), "a a");
  EXPECT_EQ(tokenizer->decode({1, 263}, true), "a");
  EXPECT_EQ(tokenizer->bos_id(), 1);
  EXPECT_EQ(tokenizer->eos_id(), 2);
  EXPECT_TRUE(tokenizer->adds_bos());
  EXPECT_EQ(tokenizer->find("▁a"), 263);
  EXPECT_EQ(tokenizer->find(" a"), std::nullopt);
  EXPECT_EQ(tokenizer->vocab_size(), 267);
  EXPECT_THROW(tokenizer->encode("a\xC3"), Error);
}

TEST(SentencePieceTokenizer, SpecialStringsAreParsedOnlyWhereAsked) {
  const auto tokenizer = load(model_file(kSmallModel, kPlain));
  EXPECT_EQ(tokenizer->encode("<s>ab</s>b<s>"), (Ids{1, 262, 2, 261, 1}));  // no blank behind a special
  EXPECT_EQ(tokenizer->encode("b<s>"), (Ids{259, 261, 1}));
  const Ids plain = tokenizer->encode("<s>", {.parse_special = false});
  EXPECT_EQ(plain, (Ids{259, 3 + '<', 3 + 's', 3 + '>'}));
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("<s>ab a</s>")), "<s>ab a</s>");
}

TEST(SentencePieceTokenizer, EqualsTheLibraryOnRandomModelsAndTexts) {
  std::mt19937 rng(11);
  const auto pick = [&](int n) { return static_cast<int>(rng() % static_cast<unsigned>(n)); };
  for (int round = 0; round < 30; ++round) {
    const std::string letters = round % 2 == 0 ? "abc" : "ab ";
    std::vector<ModelPiece> pieces = {{" ", -20}, {"a", -20}, {"b", -20}, {"c", -20}};
    for (int k = 0; k < 30; ++k) {
      std::string text;
      const int length = 2 + pick(4);
      for (int c = 0; c < length; ++c) text += letters[static_cast<size_t>(pick(3))];
      const auto same = [&](const ModelPiece& p) { return p.text == text; };
      if (std::none_of(pieces.begin(), pieces.end(), same)) {
        pieces.push_back({text, static_cast<float>(-pick(8))});
      }
    }
    // With a user-defined piece, or when blanks are tidied up, the library itself is used.
    if (round % 3 == 1) pieces.push_back({"bb cc", 0, Type::kUserDefined});
    const std::string file = model_file(pieces, round % 3 == 2 ? kTidying : kPlain);
    const auto tokenizer = load(file);
    for (int k = 0; k < 20; ++k) {
      std::string text;
      const int length = 1 + pick(60);
      static const std::vector<std::string> kCharacters = {"a", "b", " ", "c", "é", "▁", "\n"};
      for (int c = 0; c < length; ++c) text += kCharacters[static_cast<size_t>(pick(7))];
      EXPECT_EQ(tokenizer->encode(text), encode_by_library(file, text)) << "'" << text << "'";
    }
  }
}

TEST(SentencePieceTokenizer, UnigramModelsAreEncodedByTheLibrary) {
  const std::string file = model_file(kSmallModel, kPlain, 1);
  const auto tokenizer = load(file);
  EXPECT_EQ(tokenizer->encode("abab a"), encode_by_library(file, "abab a"));
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("abab a")), "abab a");
  EXPECT_EQ(tokenizer->encode("<s>b"), (Ids{1, 261}));
}

TEST(SentencePieceTokenizer, LongWordsTakeNoQuadraticTime) {
  const auto tokenizer = load(model_file(kSmallModel, kPlain));
  std::string word;
  for (int k = 0; k < 2'000'000; ++k) word += "ba";
  EXPECT_EQ(tokenizer->decode(tokenizer->encode(word)), word);
}

TEST(SentencePieceTokenizer, TellsItsFilesFromTiktoken) {
  EXPECT_TRUE(looks_like_sentencepiece(model_file(kSmallModel, kPlain)));
  EXPECT_FALSE(looks_like_sentencepiece("IQ== 0\nIg== 1\n"));
  EXPECT_FALSE(looks_like_sentencepiece(""));
  EXPECT_FALSE(looks_like_sentencepiece("\n"));
}

TEST(SentencePieceTokenizer, RefusesBadModels) {
  const std::string rest = bytes_field(2, flag_field(3, 2)) + bytes_field(3, kPlain);
  const std::string unknown = piece_field({"<unk>", 0, Type::kUnknown});
  const std::string a = piece_field({"a", 0, Type::kNormal});
  EXPECT_NO_THROW(load(unknown + a + rest));
  EXPECT_THROW(load_sentencepiece("no/such/file.model"), Error);
  EXPECT_THROW(load(rest), Error);                    // no pieces
  EXPECT_THROW(load(a + rest), Error);                // no unknown piece
  EXPECT_THROW(load(unknown + a + a + rest), Error);  // a piece twice
  EXPECT_THROW(load(unknown + piece_field({"", 0, Type::kNormal}) + rest), Error);
  EXPECT_THROW(load(unknown + piece_field({"\xFF", 0, Type::kNormal}) + rest), Error);
  EXPECT_THROW(load(unknown + piece_field({"0x41", 0, Type::kByte}) + rest), Error);
  EXPECT_THROW(load(unknown + piece_field({"a", 0, static_cast<Type>(9)}) + rest), Error);
  EXPECT_THROW(load(unknown + a + bytes_field(2, flag_field(3, 7))), Error);   // unknown kind
  EXPECT_THROW(load(unknown + a + bytes_field(2, flag_field(35, 1))), Error);  // bytes missing
  EXPECT_THROW(load(unknown + a + "\x0B"), Error);                             // a group
  EXPECT_THROW(load(unknown + a + "\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F"), Error);
  EXPECT_THROW(load("IQ== 0\n"), Error);
  EXPECT_THROW(load(""), Error);
}

// For any byte changed and the file cut anywhere: an Error, or a tokenizer that works; nothing on stderr. The
// library's own path is tested too (the second model).
TEST(SentencePieceTokenizer, SurvivesEveryWrongByteAndEveryCut) {
  for (const std::string& good : {model_file(kSmallModel, kPlain), model_file(kSmallModel, kTidying, 1)}) {
    const auto attempt = [&](const std::string& bytes) {
      try {
        const auto tokenizer = load(bytes);
        tokenizer->decode(tokenizer->encode("ab  abab \n é<s>a"));
      } catch (const Error&) {
      }
    };
    testing::internal::CaptureStderr();
    // The pieces of the bytes, in the middle, all look the same.
    const auto step = [&](size_t at) { return size_t{at < 300 || at + 400 > good.size() ? 1U : 11U}; };
    for (size_t at = 0; at < good.size(); at += step(at)) {
      attempt(good.substr(0, at));
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ 0xFF);
      attempt(bad);
    }
    for (size_t at = good.size() - 60; at < good.size(); ++at) {
      for (int bit = 0; bit < 8; ++bit) {
        std::string bad = good;
        bad[at] = static_cast<char>(bad[at] ^ (1 << bit));
        attempt(bad);
      }
    }
    EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  }
}

// Reads a pair of vector files: texts between marks, and a line of ids for each.
std::vector<std::pair<std::string, Ids>> read_vectors(const std::string& stem) {
  const std::string mark = "\n__ggml_vocab_test__\n";
  const std::string input = read_file(stem + ".inp");
  const std::string output = read_file(stem + ".out");
  std::vector<std::pair<std::string, Ids>> out;
  size_t line = 0;
  for (size_t at = 0; at < input.size();) {
    const size_t end = input.find(mark, at);
    if (end == std::string::npos) break;
    const size_t line_end = output.find('\n', line);
    std::istringstream numbers(output.substr(line, line_end - line));
    out.emplace_back(input.substr(at, end - at),
                     Ids(std::istream_iterator<int32_t>(numbers), std::istream_iterator<int32_t>()));
    at = end + mark.size();
    line = line_end + 1;
  }
  return out;
}

TEST(SentencePieceTokenizer, LlamaVectors) {
  SEPLLM_DATA_OR_SKIP(data);
  const auto tokenizer = load_sentencepiece(data + "/tokenizers/llama2/tokenizer.model");
  for (const char* name : {"llama-spm", "phi-3"}) {
    const auto vectors = read_vectors(data + "/tokenizer_vectors/llama.cpp/ggml-vocab-" + name + ".gguf");
    EXPECT_GE(vectors.size(), 40U);
    for (const auto& [text, ids] : vectors) {
      EXPECT_EQ(tokenizer->encode(text), ids) << name << ": '" << text << "'";
      EXPECT_EQ(tokenizer->decode(ids), text);
    }
  }
}

TEST(SentencePieceTokenizer, EqualsTheLibraryAndLlama2cOnRealText) {
  SEPLLM_DATA_OR_SKIP(data);
  const std::string path = data + "/tokenizers/llama2/tokenizer.model";
  const auto tokenizer = load_sentencepiece(path);
  const auto llama2c = load_llama2c(data + "/tokenizers/llama2/tokenizer.bin", 32000);
  sentencepiece::SentencePieceProcessor processor;
  ASSERT_TRUE(processor.Load(path).ok());
  std::vector<std::string> files = {data + "/text/tinyshakespeare/input.txt",
                                    data + "/text/wikitext-2-raw/wiki.test.raw"};
  const std::string books = data + "/text/pg19/test";
  for (const auto& entry : std::filesystem::directory_iterator(books)) {
    if (files.size() < 4) files.push_back(entry.path());
  }
  for (const std::string& file : files) {
    const std::string text = read_file(file);
    const Ids ids = tokenizer->encode(text, {.parse_special = false});
    Ids expected;
    ASSERT_TRUE(processor.Encode(text, &expected).ok());
    EXPECT_TRUE(ids == expected) << file;
    EXPECT_TRUE(llama2c->encode(text) == expected) << file;
    EXPECT_TRUE(tokenizer->decode(ids) == text) << file;
    EXPECT_TRUE(llama2c->decode(ids) == text) << file;
  }
}

}  // namespace
}  // namespace sepllm
