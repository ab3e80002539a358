// The files of byte-level BPE tokenizers, in small: which one is loaded, what the files next to it say, and
// bad input.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/byte_alphabet.h"
#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "tests/support/expect_error.h"
#include "tests/support/support.h"
#include "text/formats/tiktoken.h"
#include "text/formats/tokenizer_json.h"
#include "text/tokenizer.h"

namespace sepllm {
namespace {

using Ids = std::vector<int32_t>;
using test::TemporaryFolder;

Json byte_vocab() {
  Json vocab = Json::object();
  for (int b = 0; b < 256; ++b) {
    std::string piece;
    append_byte_level(piece, std::string(1, static_cast<char>(b)));
    vocab[piece] = b;
  }
  vocab["he"] = 256;
  vocab["\u0120t"] = 257;
  vocab["<|endoftext|>"] = 258;
  return vocab;
}

Json tokenizer_document() {
  const Json bytes = {{"type", "ByteLevel"}, {"add_prefix_space", false}};
  return {{"version", "1.0"},
          {"added_tokens", {{{"id", 258}, {"content", "<|endoftext|>"}, {"special", true}}}},
          {"normalizer", nullptr},
          {"pre_tokenizer", bytes},
          {"decoder", bytes},
          {"model", {{"type", "BPE"}, {"vocab", byte_vocab()}, {"merges", {"h e", "\u0120 t"}}}}};
}

// "he the" and its ids.
const Ids kIds = {256, 257, 256};

std::string message_of(const std::string& text) {
  try {
    parse_tokenizer_json(text, "tokenizer.json");
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(LoadTokenizer, TokenizerJsonOfAFolderWithItsConfig) {
  const TemporaryFolder folder;
  folder.write("tokenizer.json", tokenizer_document().dump());
  folder.write("tokenizer_config.json",
               R"({"bos_token": {"content": "<|endoftext|>"}, "eos_token": "he", "add_bos_token": true,
                   "chat_template": [{"name": "tool", "template": "T"}, {"name": "default", "template": "D"}]})");
  const auto tokenizer = load_tokenizer(folder.path());
  EXPECT_EQ(tokenizer->encode("he the"), kIds);
  EXPECT_EQ(tokenizer->encode("he the", {.add_special = true}), (Ids{258, 256, 257, 256}));
  EXPECT_EQ(tokenizer->decode(kIds), "he the");
  EXPECT_EQ(tokenizer->bos_id(), 258);
  EXPECT_EQ(tokenizer->eos_id(), 256);
  EXPECT_TRUE(tokenizer->adds_bos());
  EXPECT_EQ(tokenizer->chat_template(), "D");
  EXPECT_EQ(tokenizer->vocab_size(), 259);
  EXPECT_EQ(tokenizer->piece(257), "\u0120t");
  EXPECT_EQ(tokenizer->token_bytes(257), " t");
  EXPECT_EQ(tokenizer->token_bytes(259), "");
  EXPECT_EQ(tokenizer->token_bytes(-1), "");
  EXPECT_TRUE(tokenizer->is_special(258));
  EXPECT_TRUE(tokenizer->is_special(256));  // because it is named as EOS
  EXPECT_FALSE(tokenizer->is_special(257));
  folder.write("chat_template.jinja", "J");
  EXPECT_EQ(load_tokenizer(folder.path())->chat_template(), "J");
}

TEST(LoadTokenizer, ModelConfigsFillWhatTheTokenizersFilesDoNotSay) {
  const TemporaryFolder folder;
  folder.write("tokenizer.json", tokenizer_document().dump());
  EXPECT_EQ(load_tokenizer(folder.path())->eos_id(), 258);  // <|endoftext|>
  folder.write("config.json", R"({"bos_token_id": 3, "eos_token_id": 4})");
  EXPECT_EQ(load_tokenizer(folder.path())->bos_id(), 3);
  folder.write("generation_config.json", R"({"eos_token_id": [5, 6]})");
  EXPECT_EQ(load_tokenizer(folder.path())->eos_id(), 5);
  folder.write("special_tokens_map.json", R"({"eos_token": {"content": "he"}})");
  EXPECT_EQ(load_tokenizer(folder.path())->eos_id(), 256);
  EXPECT_FALSE(load_tokenizer(folder.path())->adds_bos());
  folder.write("special_tokens_map.json", R"({"eos_token": 7})");
  EXPECT_THROW(load_tokenizer(folder.path()), Error);
}

struct Loaded {
  std::unique_ptr<Tokenizer> tokenizer;
  std::string warnings;
};

Loaded load_with_warnings(const TemporaryFolder& folder, int64_t rows = 0) {
  Loaded loaded;
  LogSink old = set_log_sink([&](LogLevel, const std::string& text) { loaded.warnings += text + "\n"; });
  loaded.tokenizer = load_tokenizer(folder.path(), rows);
  set_log_sink(std::move(old));
  return loaded;
}

void expect_warning(const std::string& warnings, std::initializer_list<const char*> parts) {
  for (const char* part : parts) EXPECT_NE(warnings.find(part), std::string::npos) << warnings;
  EXPECT_EQ(std::count(warnings.begin(), warnings.end(), '\n'), 1) << warnings;
}

TEST(LoadTokenizer, StatedIdsHoldAlsoWithGapsBetween) {
  const TemporaryFolder folder;
  folder.write("tokenizer.json", tokenizer_document().dump());
  folder.write("added_tokens.json", R"({"<b>": 400, "<a>": 300})");
  const Loaded loaded = load_with_warnings(folder);
  EXPECT_EQ(loaded.warnings, "");
  EXPECT_EQ(loaded.tokenizer->encode("<a><b>"), (Ids{300, 400}));
  EXPECT_EQ(loaded.tokenizer->vocab_size(), 401);
  EXPECT_EQ(loaded.tokenizer->piece(350), "");
  EXPECT_EQ(loaded.tokenizer->decode({300, 350, 400}), "<a><b>");
}

TEST(LoadTokenizer, NamesWithoutAnIdAreWarnedOf) {
  const TemporaryFolder folder;
  folder.write("tokenizer.json", tokenizer_document().dump());
  folder.write("special_tokens_map.json", R"({"eos_token": "<end>", "pad_token": "he",
      "additional_special_tokens": ["<a>", "<b>", "<c>"]})");
  // As in transformers: the next ids, in the order of the roles.
  Loaded loaded = load_with_warnings(folder);
  expect_warning(loaded.warnings, {"special_tokens_map.json", "\"<end>\", \"<a>\", \"<b>\" and 1 more"});
  EXPECT_EQ(loaded.tokenizer->encode("<end><a><b><c>"), (Ids{259, 260, 261, 262}));
  EXPECT_EQ(loaded.tokenizer->eos_id(), 259);
  // The model has no rows for more than two of them.
  loaded = load_with_warnings(folder, 261);
  EXPECT_NE(loaded.warnings.find("plain text"), std::string::npos) << loaded.warnings;
  EXPECT_EQ(loaded.tokenizer->vocab_size(), 261);
  EXPECT_EQ(loaded.tokenizer->find("<b>"), std::nullopt);
  // The same with the size from config.json; EOS falls back to its id there.
  folder.write("config.json", R"({"vocab_size": 259, "eos_token_id": 258})");
  loaded = load_with_warnings(folder);
  expect_warning(loaded.warnings, {"plain text", "<end>"});
  EXPECT_EQ(loaded.tokenizer->vocab_size(), 259);
  EXPECT_EQ(loaded.tokenizer->eos_id(), 258);
}

TEST(LoadTokenizer, NamesInFilesThatDoNotCountAreWarnedOf) {
  const TemporaryFolder folder;
  folder.write("tokenizer.json", tokenizer_document().dump());
  folder.write("tokenizer_config.json",
               R"({"added_tokens_decoder": {"259": {"content": "<a>", "special": true}}})");
  folder.write("special_tokens_map.json", R"({"pad_token": "<pad>", "sep_token": "<a>", "cls_token": "he"})");
  const Loaded loaded = load_with_warnings(folder);
  expect_warning(loaded.warnings, {"special_tokens_map.json", "\"<pad>\"", "plain text"});
  EXPECT_EQ(loaded.tokenizer->encode("<a>"), Ids{259});
}

TEST(LoadTokenizer, StatedIdsOfOtherTokensDoNotCount) {
  const TemporaryFolder folder;
  folder.write("tokenizer.json", tokenizer_document().dump());
  folder.write("added_tokens.json", R"({"<a>": 65, "he": 300, "<|endoftext|>": 301})");
  const Loaded loaded = load_with_warnings(folder);
  expect_warning(loaded.warnings, {"added_tokens.json", "\"<a>\", \"he\"", "other tokens"});
  EXPECT_EQ(loaded.tokenizer->encode("<a>he<|endoftext|>"), (Ids{259, 256, 258}));
}

TEST(LoadTokenizer, WrongValuesInTheFilesNextToItAreErrors) {
  const auto expect_refused = [](const char* name, const char* content) {
    const TemporaryFolder folder;
    folder.write("tokenizer.json", tokenizer_document().dump());
    folder.write(name, content);
    EXPECT_THROW(load_tokenizer(folder.path()), Error) << name << " " << content;
  };
  for (const char* content : {"[]", R"({"<a>": -1})", R"({"<a>": "5"})", R"({"<a>": 2147483647})",
                              R"({"<a>": 300, "<b>": 300.5})", "{"}) {
    expect_refused("added_tokens.json", content);
  }
  for (const char* content :
       {R"({"added_tokens_decoder": []})", R"({"added_tokens_decoder": {"x": {"content": "<a>"}}})",
        R"({"added_tokens_decoder": {"-3": {"content": "<a>"}}})",
        R"({"added_tokens_decoder": {"300": "<a>"}})", R"({"added_tokens_decoder": {"300": {"content": 5}}})",
        R"({"added_tokens_decoder": {"99999999": {"content": "<a>"}}})", R"({"pad_token": 5})",
        R"({"additional_special_tokens": [5]})", R"({"add_prefix_space": "yes"})", R"({"legacy": 1})"}) {
    expect_refused("tokenizer_config.json", content);
  }
}

TEST(LoadTokenizer, AnEmptyNameIsNone) {
  const TemporaryFolder folder;
  folder.write("tokenizer.json", tokenizer_document().dump());
  folder.write("special_tokens_map.json", R"({"eos_token": "", "unk_token": "", "pad_token": null})");
  const Loaded loaded = load_with_warnings(folder);
  EXPECT_EQ(loaded.warnings, "");
  EXPECT_EQ(loaded.tokenizer->eos_id(), 258);
  EXPECT_EQ(loaded.tokenizer->vocab_size(), 259);
}

TEST(LoadTokenizer, Gpt2FilesWithAndWithoutTheirVersion) {
  for (const char* head : {"", "#version: 0.2\n"}) {
    const TemporaryFolder folder;
    folder.write("vocab.json", byte_vocab().dump());
    folder.write("merges.txt", std::string(head) + "h e\n\u0120 t\n");
    const auto tokenizer = load_tokenizer(folder.path());
    EXPECT_EQ(tokenizer->encode("he the<|endoftext|>"), (Ids{256, 257, 256, 258}));
    EXPECT_EQ(load_tokenizer(folder.file("merges.txt"))->encode("he the"), kIds);
    folder.write("merges.txt", "h e\nh e x\n");
    EXPECT_THROW(load_tokenizer(folder.path()), Error);
  }
}

std::string tiktoken_file() {
  const char* digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string file;
  for (unsigned b = 0; b < 256; ++b) {
    file += fmt::format("{}{}== {}\n", digits[b >> 2], digits[(b & 3) << 4], b);
  }
  return file + "aGU= 256\nIHQ= 257\nIHRoZQ== 258\n";  // "he", " t", " the"
}

TEST(LoadTokenizer, TiktokenWithLlama3sSpecialTokens) {
  const TemporaryFolder folder;
  folder.write("tokenizer.model", tiktoken_file());
  const auto tokenizer = load_tokenizer(folder.path());
  EXPECT_EQ(tokenizer->format(), "tiktoken");
  EXPECT_EQ(tokenizer->encode("he the<|eot_id|>"), (Ids{256, 258, 259 + 9}));
  EXPECT_EQ(tokenizer->encode("he", {.add_special = true}), (Ids{259, 256}));
  EXPECT_GT(tokenizer->encode("<|eot_id|>", {.parse_special = false}).size(), 1u);
  EXPECT_EQ(tokenizer->vocab_size(), 259 + 256);
  EXPECT_EQ(tokenizer->piece(259 + 255), "<|reserved_special_token_250|>");
  EXPECT_EQ(tokenizer->bos_id(), 259);
  EXPECT_EQ(tokenizer->eos_id(), 260);
  EXPECT_TRUE(tokenizer->adds_bos());
}

// Llama 3.1 gives names to tokens that Llama 3 reserves.
TEST(LoadTokenizer, NamedTokensOfTiktokenTakeTheReservedPlaces) {
  const TemporaryFolder folder;
  folder.write("tokenizer.model", tiktoken_file());
  folder.write("tokenizer_config.json",
               R"({"added_tokens_decoder": {"267": {"content": "<|eom_id|>", "special": true}}})");
  const Loaded loaded = load_with_warnings(folder);
  EXPECT_EQ(loaded.warnings, "");
  EXPECT_EQ(loaded.tokenizer->encode("<|eom_id|><|eot_id|>"), (Ids{267, 268}));
  EXPECT_EQ(loaded.tokenizer->piece(267), "<|eom_id|>");
  EXPECT_EQ(loaded.tokenizer->find("<|reserved_special_token_4|>"), std::nullopt);
  EXPECT_EQ(loaded.tokenizer->encode("he", {.add_special = true}), (Ids{259, 256}));
  EXPECT_EQ(loaded.tokenizer->vocab_size(), 259 + 256);
}

TEST(LoadTokenizer, DamagedTiktokenFilesAreErrors) {
  const std::string whole = tiktoken_file();
  EXPECT_THROW(parse_tiktoken("", "f"), Error);
  EXPECT_THROW(parse_tiktoken(whole.substr(9), "f"), Error);       // first rank missing
  EXPECT_THROW(parse_tiktoken(whole + "aGU= 259\n", "f"), Error);  // token twice
  EXPECT_THROW(parse_tiktoken(whole + "aG* 259\n", "f"), Error);   // not base64
  EXPECT_THROW(parse_tiktoken(whole + "aGVs 300\n", "f"), Error);  // a gap
  EXPECT_THROW(parse_tiktoken(whole + "aGVs 99999999999999999999\n", "f"), Error);
}

TEST(TokenizerJson, InvalidUtf8IsAnErrorWithItsPlace) {
  const auto tokenizer = parse_tokenizer_json(tokenizer_document().dump(), "f");
  try {
    tokenizer->encode("ab\xFFz");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kInvalidArgument);
    EXPECT_NE(std::string(e.what()).find("byte 2"), std::string::npos) << e.what();
  }
}

TEST(TokenizerJson, NulsAndEmptyTexts) {
  const auto tokenizer = parse_tokenizer_json(tokenizer_document().dump(), "f");
  EXPECT_EQ(tokenizer->encode(""), Ids());
  EXPECT_EQ(tokenizer->encode(std::string(1000, '\0')), Ids(1000, 0));
  EXPECT_EQ(tokenizer->decode(Ids(3, 0)), std::string(3, '\0'));
}

TEST(TokenizerJson, ManyThreadsShareOneTokenizer) {
  const auto tokenizer = parse_tokenizer_json(tokenizer_document().dump(), "f");
  std::string text;
  for (int k = 0; k < 2000; ++k) text += fmt::format("he the {} ", k * 7919);
  const Ids expected = tokenizer->encode(text);
  std::vector<int> equal(4, 0);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < equal.size(); ++t) {
    threads.emplace_back([&, t] {
      for (int k = 0; k < 20; ++k) equal[t] += tokenizer->encode(text) == expected;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(equal, std::vector<int>(4, 20));
}

TEST(TokenizerJson, WhatItDoesNotKnowIsNamed) {
  const auto with = [](const char* pointer, const Json& value) {
    Json document = tokenizer_document();
    document[Json::json_pointer(pointer)] = value;
    return message_of(document.dump());
  };
  const auto expect_named = [](const std::string& message, const char* name) {
    EXPECT_NE(message.find(name), std::string::npos) << message << " does not name " << name;
  };
  EXPECT_EQ(message_of(tokenizer_document().dump()), "");
  expect_named(with("/surprise", 1), "surprise");
  expect_named(with("/version", "2.0"), "version");
  expect_named(with("/model/type", "Unigram"), "model.type");
  expect_named(with("/model/dropout", 0.1), "model.dropout");
  expect_named(with("/model/unk_token", "<unk>"), "unk_token");
  expect_named(with("/normalizer", {{"type", "Precompiled"}}), "normalizer.type");
  expect_named(with("/pre_tokenizer/regex", "x"), "pre_tokenizer.regex");
  expect_named(with("/pre_tokenizer", {{"type", "UnicodeScripts"}}), "UnicodeScripts");
  expect_named(with("/decoder", {{"type", "WordPiece"}}), "decoder.type");
  expect_named(with("/post_processor", {{"type", "Other"}}), "post_processor.type");
  expect_named(with("/post_processor", {{"type", "BertProcessing"}, {"sep", 5}, {"cls", {"he", 256}}}),
               "sep");
  expect_named(
      with("/post_processor", {{"type", "BertProcessing"}, {"sep", {"he", 900}}, {"cls", {"he", 256}}}),
      "post_processor");
  expect_named(with("/added_tokens/0/id", 5), "added_tokens");
  expect_named(with("/added_tokens/0/id", 1 << 30), "added_tokens[0].id");
  expect_named(with("/model/vocab/x", 1), "vocab");
  expect_named(with("/model/merges/0", "h e x"), "merges[0]");
  expect_named(with("/model/merges/0", 5), "merges[0]");
  expect_named(with("/model/merges/0", Json::array({"h"})), "merges[0]");
  expect_named(with("/model/vocab/he", "256"), "model.vocab.he");
}

// A chat's text: special tokens are recognised only where the template wrote all of their bytes.
TEST(TokenizerJson, SpecialTokensWithinRangesOnly) {
  Json document = tokenizer_document();
  const auto add = [&](int id, const std::string& content, bool special, bool normalized) {
    document["added_tokens"].push_back(
        {{"id", id}, {"content", content}, {"special", special}, {"normalized", normalized}});
  };
  add(259, "<ab>", true, false);
  add(260, "b>", true, false);  // within the other
  add(261, "<free>", false, false);
  add(262, "[N]", true, true);
  document["normalizer"] = {{"type", "Lowercase"}};
  const auto tokenizer = parse_tokenizer_json(document.dump(), "tokenizer.json");
  const auto specials = [&](const std::string& text, const std::vector<TextRange>& ranges) {
    Ids out;
    const Ids ids = tokenizer->encode(text, {.special_within = &ranges});
    for (const int32_t id : ids) {
      if (id >= 258) out.push_back(id);
    }
    EXPECT_EQ(tokenizer->decode(ids).size(), text.size()) << text;
    return out;
  };
  EXPECT_EQ(specials("x<ab>y", {{0, 6}}), Ids{259});
  EXPECT_EQ(specials("x<ab>y", {{1, 5}}), Ids{259});
  EXPECT_EQ(specials("x<ab>y", {}), Ids{});
  // A special string that the user began does not hide a token in the template's bytes.
  EXPECT_EQ(specials("x<ab>y", {{2, 6}}), Ids{260});
  EXPECT_EQ(specials("x<ab>y", {{0, 3}, {3, 6}}), Ids{260});  // two adjacent ranges are not one
  EXPECT_EQ(specials("<ab><ab><ab>", {{4, 8}}), Ids{259});
  EXPECT_EQ(specials("<<|endoftext|>", {{1, 14}}), Ids{258});
  EXPECT_EQ(specials("<free>", {}), Ids{261});
  // The token is looked for in the normal form, whose bytes lie elsewhere.
  const std::string longer = "\u023A\u023A";  // two bytes each, three in lower case
  EXPECT_EQ(specials("[N]", {{0, 3}}), Ids{262});
  EXPECT_EQ(specials("[N]", {}), Ids{});
  EXPECT_EQ(tokenizer->encode(longer + "[N]" + longer + "[n]").size(),
            tokenizer->encode(longer + longer).size() + 2);
  const std::vector<TextRange> second = {{11, 14}};
  const Ids ids = tokenizer->encode(longer + "[N]" + longer + "[N]", {.special_within = &second});
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 262), 1);
  EXPECT_EQ(ids.back(), 262);
}

TEST(LoadTokenizer, AFolderWithoutOneAndAFileThatIsNone) {
  const TemporaryFolder folder;
  EXPECT_THROW(load_tokenizer(folder.path()), Error);
  EXPECT_THROW(load_tokenizer(folder.file("tokenizer.json")), Error);
  folder.write("tokenizer.model", "neither this nor that");
  EXPECT_THROW(load_tokenizer(folder.path()), Error);
}

// A clone without Git LFS lacks tokenizer files: the error says so, whichever reader has failed on the
// placeholder.
TEST(LoadTokenizer, FilesThatStandForOthersAreNamed) {
  const std::string pointer =
      "version https://git-lfs.github.com/spec/v1\noid sha256:" + std::string(64, 'a') + "\nsize 2112\n";
  const std::string page = "<!DOCTYPE html>\n<html><body>Not Found</body></html>";
  const std::string document = tokenizer_document().dump(), vocab = byte_vocab().dump();
  using Files = std::vector<std::pair<std::string, std::string>>;
  const auto expect_named = [](const Files& files, const std::string& at_fault, const std::string& kind) {
    const TemporaryFolder folder;
    for (const auto& [name, content] : files) folder.write(name, content);
    for (const std::string& path : {folder.path(), folder.file(files.front().first)}) {
      test::expect_error([&] { load_tokenizer(path); }, ErrorCode::kBadFile, {at_fault, kind});
    }
  };
  for (const auto& [content, kind] :
       {std::pair(pointer, std::string("Git LFS pointer")), {page, "an HTML page"}}) {
    expect_named({{"tokenizer.json", content}}, "tokenizer.json", kind);
    expect_named({{"tokenizer.model", content}}, "tokenizer.model", kind);
    expect_named({{"tokenizer.bin", content}}, "tokenizer.bin", kind);
    expect_named({{"vocab.json", content}, {"merges.txt", "h e\n"}}, "vocab.json", kind);
    expect_named({{"vocab.json", vocab}, {"merges.txt", content}}, "merges.txt", kind);
    for (const char* name : {"tokenizer_config.json", "special_tokens_map.json"})
      expect_named({{"tokenizer.json", document}, {name, content}}, name, kind);
  }
  expect_named({{"tokenizer.json", ""}}, "tokenizer.json", "an empty file");
}

TEST(LoadTokenizer, FilesOfAFolderAndOfALoneFile) {
  const TemporaryFolder folder;
  const auto names = [](const std::string& path) {
    std::string out;
    for (const StoredTokenizerFile& file : tokenizer_files(path)) out += file.name + " ";
    return out;
  };
  EXPECT_EQ(names(folder.path()), "");
  folder.write("config.json", "{}");
  folder.write("chat_template.jinja", "J");
  EXPECT_EQ(names(folder.path()), "");  // there is nothing to which it could belong
  folder.write("tok512.bin", "");
  EXPECT_EQ(names(folder.path()), "tok512.bin chat_template.jinja ");
  EXPECT_EQ(names(folder.file("tok512.bin")), "tok512.bin chat_template.jinja ");
  folder.write("mine", tokenizer_document().dump());
  EXPECT_EQ(names(folder.file("mine")), "tokenizer.json chat_template.jinja ");
  folder.write("vocab.json", "{}");
  folder.write("merges.txt", "");
  EXPECT_EQ(names(folder.file("merges.txt")), "vocab.json merges.txt chat_template.jinja ");
  folder.write("tokenizer.json", tokenizer_document().dump());
  EXPECT_EQ(names(folder.path()), "tokenizer.json tok512.bin vocab.json merges.txt chat_template.jinja ");
}

}  // namespace
}  // namespace sepllm
