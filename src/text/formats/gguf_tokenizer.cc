#include "text/formats/gguf_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "base/options.h"
#include "base/utf8.h"
#include "text/formats/gguf_pre_tokenizers.h"
#include "text/formats/sentencepiece_model.h"
#include "text/formats/sentencepiece_tokenizer.h"
#include "text/formats/tokenizer_config.h"
#include "text/formats/tokenizer_json.h"

namespace sepllm {
namespace {

constexpr const char* kModelKey = "tokenizer.ggml.model";
constexpr const char* kPreKey = "tokenizer.ggml.pre";
constexpr const char* kTokensKey = "tokenizer.ggml.tokens";
constexpr const char* kTypesKey = "tokenizer.ggml.token_type";
constexpr const char* kScoresKey = "tokenizer.ggml.scores";
constexpr const char* kMergesKey = "tokenizer.ggml.merges";
constexpr const char* kTemplateKey = "tokenizer.chat_template";
constexpr const char* kBpeFile = "tokenizer.json";
constexpr const char* kSentencePieceFile = "tokenizer.model";
constexpr std::string_view kMarkedBlank = "\xE2\x96\x81";  // U+2581
constexpr const char* kConfigFile = "tokenizer_config.json";
// Far more than any tokenizer has.
constexpr uint64_t kMostTokens = uint64_t{1} << 24, kMostMerges = uint64_t{1} << 24;

// tokenizer.ggml.token_type: the numbers of SentencePiece.
using Type = SentencePieceModel::Type;

struct Vocabulary {
  std::vector<std::string_view> tokens;
  std::vector<Type> types;

  int64_t size() const { return static_cast<int64_t>(tokens.size()); }
};

void check_utf8(const GgufMetadata& m, const char* key, std::string_view text) {
  if (utf8_find_invalid(text)) m.fail(key, "not valid UTF-8", "", std::string(text.substr(0, 60)));
}

void check_count(const GgufMetadata& m, const char* key, const char* message, size_t expected, size_t got) {
  if (expected != got) m.fail(key, message, fmt::format("{}", expected), fmt::format("{}", got));
}

Vocabulary read_vocabulary(const GgufMetadata& m) {
  Vocabulary out{.tokens = m.strings(kTokensKey, kMostTokens), .types = {}};
  for (const std::string_view token : out.tokens) check_utf8(m, kTokensKey, token);
  const auto types = m.integers(kTypesKey, kMostTokens, 1, 6);
  check_count(m, kTypesKey, "not as many types as tokens", out.tokens.size(), types.size());
  for (const int64_t type : types) out.types.push_back(static_cast<Type>(type));
  return out;
}

// The token that a key of the metadata names by its id, if it does.
std::optional<int64_t> named_id(const GgufMetadata& m, const char* name, const Vocabulary& vocabulary) {
  const std::string key = fmt::format("tokenizer.ggml.{}_token_id", name);
  if (!m.has(key)) return std::nullopt;
  return m.integer(key, 0, vocabulary.size() - 1);
}

// A SentencePiece model has one unknown piece; some writers call it a control token.
void mark_unknown(const GgufMetadata& m, Vocabulary* vocabulary) {
  std::vector<Type>& types = vocabulary->types;
  if (std::find(types.begin(), types.end(), Type::kUnknown) != types.end()) return;
  if (const auto id = named_id(m, "unknown", *vocabulary)) types[static_cast<size_t>(*id)] = Type::kUnknown;
}

// The chat template, or the list of named ones (tokenizer.chat_template.NAME).
Json read_templates(const GgufMetadata& m) {
  Json named = Json::array();
  const std::string prefix = std::string(kTemplateKey) + ".";
  for (const auto& [key, value] : m.values()) {
    if (key != kTemplateKey && !key.starts_with(prefix)) continue;
    const std::string text = m.string(key);
    check_utf8(m, key.c_str(), text);
    named.push_back(
        {{"name", key == kTemplateKey ? "default" : key.substr(prefix.size())}, {"template", text}});
  }
  if (named.empty()) return nullptr;
  return named.size() == 1 && m.has(kTemplateKey) ? named[0]["template"] : named;
}

// tokenizer_config.json
Json config_document(const GgufMetadata& m, const Vocabulary& vocabulary, bool is_bpe, bool adds_bos) {
  Json out = {{"tokenizer_class", is_bpe ? "PreTrainedTokenizerFast" : "LlamaTokenizer"},
              {"add_bos_token", m.boolean_or("tokenizer.ggml.add_bos_token", adds_bos)},
              {"add_eos_token", m.boolean_or("tokenizer.ggml.add_eos_token", false)},
              {"clean_up_tokenization_spaces", false}};
  // After a special token SentencePiece's blank in front is put again, as llama.cpp does.
  if (!is_bpe) out["legacy"] = true;
  struct Role {
    const char *key, *name;
  };
  for (const Role& role :
       {Role{"bos", "bos_token"}, Role{"eos", "eos_token"}, Role{"unknown", "unk_token"},
        Role{"padding", "pad_token"}, Role{"seperator", "sep_token"}, Role{"mask", "mask_token"}}) {
    if (const auto id = named_id(m, role.key, vocabulary))
      out[role.name] = std::string(vocabulary.tokens[static_cast<size_t>(*id)]);
  }
  if (Json templates = read_templates(m); !templates.is_null()) out["chat_template"] = std::move(templates);
  return out;
}

// The step of a tokenizer.json that puts BOS and EOS around a text, where the metadata say so.
Json post_processor(const Json& config, const GgufMetadata& m, const Vocabulary& vocabulary) {
  Json single = Json::array(), special = Json::object();
  const auto add = [&](const char* flag, const char* role, const char* key) {
    if (!config[flag].get<bool>() || !config.contains(role)) return;
    const std::string token = config[role].get<std::string>();
    single.push_back({{"SpecialToken", {{"id", token}, {"type_id", 0}}}});
    special[token] = {{"id", token}, {"ids", {*named_id(m, key, vocabulary)}}, {"tokens", {token}}};
  };
  add("add_bos_token", "bos_token", "bos");
  single.push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
  add("add_eos_token", "eos_token", "eos");
  if (special.empty()) return nullptr;
  Json pair = single;
  pair.push_back({{"Sequence", {{"id", "B"}, {"type_id", 0}}}});
  return {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", special}};
}

// tokenizer.json of a byte-level BPE. (Lists as text: objects of so many members are slow to build.)
std::string bpe_document(const GgufMetadata& m, const Vocabulary& vocabulary, const GgufPreTokenizer& pre,
                         const Json& config) {
  std::string added, vocab, merges;
  const auto comma = [](std::string& list) { list += list.empty() ? "" : ","; };
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    const std::string token = json_text(Json(std::string(vocabulary.tokens[id])));
    comma(vocab);
    vocab += fmt::format("{}:{}", token, id);
    const Type type = vocabulary.types[id];
    if (type != Type::kControl && type != Type::kUserDefined && type != Type::kUnknown) continue;
    comma(added);
    added += fmt::format(
        R"({{"id":{},"content":{},"single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":{}}})",
        id, token, type != Type::kUserDefined);
  }
  for (const std::string_view merge : m.strings(kMergesKey, kMostMerges)) {
    check_utf8(m, kMergesKey, merge);
    comma(merges);
    merges += json_text(Json(std::string(merge)));
  }
  return fmt::format(
      R"({{"version":"1.0","truncation":null,"padding":null,"added_tokens":[{}],"normalizer":null,)"
      R"("pre_tokenizer":{},"post_processor":{},)"
      R"("decoder":{{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true}},)"
      R"("model":{{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,)"
      R"("end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,"ignore_merges":{},)"
      R"("vocab":{{{}}},"merges":[{}]}}}})",
      added, pre_tokenizer_json(pre), json_text(post_processor(config, m, vocabulary)), pre.ignore_merges,
      vocab, merges);
}

// Fields of a protocol buffer.
std::string varint(uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out += static_cast<char>((value & 0x7F) | 0x80);
  return out + static_cast<char>(value);
}
std::string number_field(uint64_t field, uint64_t value) { return varint(field << 3) + varint(value); }
std::string bytes_field(uint64_t field, std::string_view bytes) {
  return varint(field << 3 | 2) + varint(bytes.size()) + std::string(bytes);
}
std::string float_field(uint64_t field, float value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return varint(field << 3 | 5) + bytes;
}

// User-defined pieces stand in GGUF with blanks, in SentencePiece with the mark for them.
std::string sentencepiece_text(std::string_view token, Type type) {
  std::string out;
  for (const char c : token) {
    if (c == ' ' && type == Type::kUserDefined) {
      out += kMarkedBlank;
    } else {
      out += c;
    }
  }
  return out;
}

// The file of the SentencePiece model that the tokens were taken from: BPE without a normaliser. (Fields of
// sentencepiece_model.proto.)
std::string sentencepiece_file(const GgufMetadata& m, const Vocabulary& vocabulary) {
  const std::vector<float> scores = m.floats(kScoresKey, kMostTokens);
  check_count(m, kScoresKey, "not as many scores as tokens", vocabulary.tokens.size(), scores.size());
  std::string out;
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    if (!std::isfinite(scores[id]))
      m.fail(kScoresKey, "a score that is NaN or infinite", "", fmt::format("that of token {}", id));
    out += bytes_field(1, bytes_field(1, sentencepiece_text(vocabulary.tokens[id], vocabulary.types[id])) +
                              float_field(2, scores[id]) +
                              number_field(3, static_cast<uint64_t>(vocabulary.types[id])));
  }
  constexpr auto kBpe = static_cast<uint64_t>(SentencePieceModel::Algorithm::kBpe);
  const bool has_bytes =
      std::find(vocabulary.types.begin(), vocabulary.types.end(), Type::kByte) != vocabulary.types.end();
  out += bytes_field(2, number_field(3, kBpe) + number_field(35, has_bytes ? 1 : 0));
  const bool add_prefix = m.boolean_or("tokenizer.ggml.add_space_prefix", true);
  return out + bytes_field(3, number_field(3, add_prefix ? 1 : 0) + number_field(4, 0) + number_field(5, 1));
}

const GgufPreTokenizer& pre_tokenizer_of(const GgufMetadata& m) {
  const std::string name = m.string_or(kPreKey, "");
  if (const GgufPreTokenizer* pre = find_gguf_pre_tokenizer(name)) return *pre;
  throw Error(ErrorCode::kUnsupported, "unknown pre-tokenizer",
              {.file = m.file(),
               .place = kPreKey,
               .expected = "one of " + known_gguf_pre_tokenizers(),
               .got = name.empty() ? "none" : name,
               .hint = "give the model's own tokenizer.json with " + option_name("tokenizer")});
}

}  // namespace

bool has_gguf_tokenizer(const GgufMetadata& m) {
  const std::string model = m.string_or(kModelKey, "none");
  return model != "none" && model != "no_vocab";
}

std::map<std::string, std::string> gguf_tokenizer_files(const GgufMetadata& m) {
  if (!has_gguf_tokenizer(m)) return {};
  const std::string model = m.string(kModelKey);
  if (model != "gpt2" && model != "llama") {
    throw Error(ErrorCode::kUnsupported, "a kind of tokenizer that is not read",
                {.file = m.file(), .place = kModelKey, .expected = "gpt2 or llama", .got = model});
  }
  const bool is_bpe = model == "gpt2";
  const GgufPreTokenizer* pre = is_bpe ? &pre_tokenizer_of(m) : nullptr;
  Vocabulary vocabulary = read_vocabulary(m);
  if (!is_bpe) mark_unknown(m, &vocabulary);
  const Json config = config_document(m, vocabulary, is_bpe, is_bpe ? pre->adds_bos : true);
  std::map<std::string, std::string> files;
  if (is_bpe) {
    files[kBpeFile] = bpe_document(m, vocabulary, *pre, config);
  } else {
    files[kSentencePieceFile] = sentencepiece_file(m, vocabulary);
  }
  files[kConfigFile] = json_text(config, 1) + "\n";
  return files;
}

std::unique_ptr<Tokenizer> gguf_tokenizer(const GgufMetadata& m, int64_t config_vocab_size) {
  const auto files = gguf_tokenizer_files(m);
  if (files.empty()) throw Error(ErrorCode::kNotFound, "the file has no tokenizer", {.file = m.file()});
  const Json document = parse_json(files.at(kConfigFile), m.file());
  TokenizerConfig config = parse_tokenizer_config({{kConfigFile, document}}, m.file());
  config.model_vocab_size = config_vocab_size;
  if (document.contains("chat_template")) {
    const Json& templates = document["chat_template"];
    if (templates.is_string()) {
      config.chat_templates.push_back({"default", templates.get<std::string>(), m.file()});
    } else {
      for (const Json& t : templates)
        config.chat_templates.push_back(
            {t["name"].get<std::string>(), t["template"].get<std::string>(), m.file()});
    }
  }
  if (const auto bpe = files.find(kBpeFile); bpe != files.end())
    return parse_tokenizer_json(bpe->second, m.file(), config);
  return parse_sentencepiece(files.at(kSentencePieceFile), m.file(), config);
}

}  // namespace sepllm
