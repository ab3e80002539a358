#include "text/formats/gguf_tokenizer_fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "text/formats/gguf_pre_tokenizers.h"
#include "text/formats/sentencepiece_model.h"
#include "text/formats/tokenizer_config.h"
#include "text/formats/tokenizer_file.h"
#include "text/tokenizer.h"

namespace sepllm {
namespace {

using Type = SentencePieceModel::Type;
constexpr std::string_view kBlankInPieces = "\xE2\x96\x81";  // U+2581

// What both kinds of tokenizers have.
struct TokenLists {
  std::vector<std::string> tokens;
  std::vector<int32_t> types;

  TokenLists(const Tokenizer& tokenizer, int64_t n_tokens) {
    for (int64_t id = 0; id < n_tokens; ++id) {
      std::string piece = tokenizer.piece(static_cast<int32_t>(id));
      Type type = tokenizer.is_special(static_cast<int32_t>(id)) ? Type::kControl : Type::kNormal;
      if (piece.empty()) {
        piece = fmt::format("[PAD{}]", id);
        type = Type::kUnused;
      }
      tokens.push_back(std::move(piece));
      types.push_back(static_cast<int32_t>(type));
    }
  }
  void set_type(int64_t id, Type type) {
    if (id >= 0 && id < static_cast<int64_t>(types.size()))
      types[static_cast<size_t>(id)] = static_cast<int32_t>(type);
  }
  // User-defined pieces of SentencePiece have blanks in GGUF.
  void unmark_blanks() {
    for (size_t id = 0; id < tokens.size(); ++id) {
      if (types[id] != static_cast<int32_t>(Type::kUserDefined)) continue;
      std::string& token = tokens[id];
      for (size_t at = token.find(kBlankInPieces); at != std::string::npos;
           at = token.find(kBlankInPieces, at))
        token.replace(at, kBlankInPieces.size(), 1, ' ');
    }
  }
  void write(GgufFields* out) const {
    out->texts("tokenizer.ggml.tokens", tokens);
    out->i32s("tokenizer.ggml.token_type", types);
  }
};

// Ids, flags and templates.
void add_settings(const Tokenizer& tokenizer, GgufFields* out) {
  const auto id = [&](const char* key, std::optional<int32_t> value) {
    if (value) out->u32(fmt::format("tokenizer.ggml.{}_token_id", key), static_cast<uint32_t>(*value));
  };
  id("bos", tokenizer.bos_id());
  id("eos", tokenizer.eos_id());
  for (const auto& [role, key] : {std::pair("unk_token", "unknown"), std::pair("pad_token", "padding")}) {
    const auto text = tokenizer.token_texts().find(role);
    if (text != tokenizer.token_texts().end()) id(key, tokenizer.find(text->second));
  }
  out->flag("tokenizer.ggml.add_bos_token", tokenizer.adds_bos());
  const std::vector<int32_t> framed = tokenizer.encode("a", {.add_special = true});
  out->flag("tokenizer.ggml.add_eos_token", !framed.empty() && tokenizer.eos_id() == framed.back());
  for (const NamedTemplate& t : tokenizer.chat_templates()) {
    const bool is_default = t.name == "default";
    out->text(is_default ? "tokenizer.chat_template" : "tokenizer.chat_template." + t.name, t.text);
  }
}

[[noreturn]] void refuse(const std::string& path, const std::string& what, const std::string& got) {
  throw Error(ErrorCode::kUnsupported, "GGUF cannot describe this tokenizer: " + what,
              {.file = path, .got = got});
}

void check_normalizer(const JsonObject& document) {
  if (!document.has("normalizer")) return;
  const std::string type = document.object("normalizer").string_or("type", "");
  if (type != "NFC") refuse(document.file(), "it has a normalizer", type);
  log_warning(fmt::format(
      "{}: GGUF has no place for the tokenizer's normalizer NFC: programs that read the file do not apply it",
      document.file()));
}

void add_bpe(const std::string& bytes, const std::string& path, TokenLists lists, GgufFields* out) {
  TokenizerFile content = parse_tokenizer_file(bytes, path);
  const JsonObject document(content.document, path);
  check_normalizer(document);
  const bool ignore_merges = document.object("model").boolean_or("ignore_merges", false);
  const std::string pre = gguf_pre_tokenizer_name(document, ignore_merges);
  if (pre.empty())
    refuse(path, "no name in GGUF means its pre_tokenizer", json_text(content.document["pre_tokenizer"]));
  if (document.has("added_tokens")) {
    for (const Json& token : document.at("added_tokens")) {
      const JsonObject added(token, path, "added_tokens");
      if (!added.boolean_or("special", false))
        lists.set_type(added.integer("id", 0, INT32_MAX), Type::kUserDefined);
    }
  }
  std::vector<std::string> merges;
  for (const MergePair& merge : content.merges) merges.push_back(merge.first + " " + merge.second);
  out->text("tokenizer.ggml.model", "gpt2");
  out->text("tokenizer.ggml.pre", pre);
  lists.write(out);
  out->texts("tokenizer.ggml.merges", merges);
}

void add_sentencepiece(const std::string& bytes, const std::string& path, std::optional<bool> add_prefix,
                       TokenLists lists, GgufFields* out) {
  const SentencePieceModel model = parse_sentencepiece_model(bytes, path);
  if (model.algorithm != SentencePieceModel::Algorithm::kBpe || !model.byte_fallback)
    refuse(path, "only SentencePiece's BPE with byte fallback has a name there", "another algorithm");
  if (model.has_normaliser) refuse(path, "it has a normalizer", "a table of characters");
  std::vector<float> scores(lists.tokens.size(), -1000.0F);  // as llama.cpp's converter has it for added ones
  for (size_t id = 0; id < std::min(scores.size(), model.pieces.size()); ++id) {
    scores[id] = model.pieces[id].score;
    lists.set_type(static_cast<int64_t>(id), model.pieces[id].type);
  }
  lists.unmark_blanks();
  out->text("tokenizer.ggml.model", "llama");
  out->text("tokenizer.ggml.pre", "default");
  lists.write(out);
  out->f32s("tokenizer.ggml.scores", scores);
  out->flag("tokenizer.ggml.add_space_prefix", add_prefix.value_or(model.add_dummy_prefix));
}

}  // namespace

GgufFields gguf_tokenizer_fields(const std::string& path, int64_t n_tokens) {
  GgufFields out;
  const std::vector<StoredTokenizerFile> files = tokenizer_files(path);
  if (files.empty()) return out;
  const std::unique_ptr<Tokenizer> tokenizer = load_tokenizer(path, n_tokens);
  const TokenLists lists(*tokenizer, n_tokens);
  std::optional<bool> add_prefix;
  for (const StoredTokenizerFile& file : files) {
    if (file.name != "tokenizer_config.json") continue;
    const Json config = parse_json(file.read(), file.path);
    add_prefix = parse_tokenizer_config({{file.name, config}}, path).add_prefix_space;
  }
  const StoredTokenizerFile& main = files.front();
  const std::string bytes = main.read();
  if (main.name == "tokenizer.json") {
    add_bpe(bytes, main.path, lists, &out);
  } else if (main.name == "tokenizer.model" && looks_like_sentencepiece(bytes)) {
    add_sentencepiece(bytes, main.path, add_prefix, lists, &out);
  } else {
    refuse(path, "only tokenizer.json and SentencePiece models are written as GGUF", tokenizer->format());
  }
  add_settings(*tokenizer, &out);
  return out;
}

}  // namespace sepllm
