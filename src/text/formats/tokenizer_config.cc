#include "text/formats/tokenizer_config.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "text/formats/chat_files.h"

namespace sepllm {
namespace {

constexpr uint64_t kMaxJsonBytes = uint64_t{1} << 30;

// The roles that every tokenizer of transformers knows (SPECIAL_TOKENS_ATTRIBUTES), in its order.
constexpr std::array kRoles = {"bos_token", "eos_token", "unk_token", "sep_token",
                               "pad_token", "cls_token", "mask_token"};

// Reads "<s>" or {"content": "<s>", ...}, named as a special token.
AddedToken special_token(const JsonObject& object, const char* key) {
  AddedToken token{.special = true};
  if (object.at(key).is_object()) {
    token = read_added_token(object.object(key));
    if (!object.object(key).has("normalized")) token.normalized = false;
    token.special = true;
  } else {
    token.content = object.string(key);
  }
  return token;
}

// Reads an id, or the first of a list of ids.
std::optional<int64_t> token_id(const JsonObject& object, const char* key) {
  if (!object.has(key)) return std::nullopt;
  const Json& value = object.at(key);
  if (!value.is_array()) return object.integer(key, -1, INT32_MAX);
  if (value.empty()) return std::nullopt;
  const Json first = {{key, value[0]}};
  return JsonObject(first, object.file()).integer(key, -1, INT32_MAX);
}

template <typename T>
void fill(std::optional<T>& target, const std::optional<T>& value) {
  if (!target) target = value;
}

// The names of special tokens in one file, by key.
class SpecialNames {
 public:
  void read(const JsonObject& object) {
    for (const auto& item : object.json().items()) read_key(object, item.key().c_str());
  }

  bool names(std::string_view content) const {
    return std::any_of(tokens_.begin(), tokens_.end(),
                       [&](const auto& entry) { return entry.second.token.content == content; });
  }
  const NamedToken* role(std::string_view key) const {
    const auto found =
        std::find_if(tokens_.begin(), tokens_.end(), [&](const auto& entry) { return entry.first == key; });
    return found == tokens_.end() ? nullptr : &found->second;
  }

  // Takes from `other` the roles that are missing here, and all of its tokens without a role.
  void fill_from(const SpecialNames& other) {
    for (const Entry& entry : other.tokens_) {
      if (entry.first == kListed || role(entry.first) == nullptr) tokens_.push_back(entry);
    }
  }

  // The usual roles come first, then those of this tokenizer, then the lists: the order of their ids.
  void append_to(std::vector<NamedToken>& out, bool ignored) const {
    const auto rank = [](const Entry& entry) {
      const auto role = std::find(kRoles.begin(), kRoles.end(), entry.first);
      return role != kRoles.end() ? role - kRoles.begin() : entry.first == kListed ? 100 : 99;
    };
    std::vector<Entry> sorted = tokens_;
    std::stable_sort(sorted.begin(), sorted.end(),
                     [&](const Entry& a, const Entry& b) { return rank(a) < rank(b); });
    for (Entry& entry : sorted) {
      entry.second.ignored = ignored;
      out.push_back(std::move(entry.second));
    }
  }

 private:
  using Entry = std::pair<std::string, NamedToken>;
  // Tokens without a role of their own.
  static constexpr const char* kListed = "additional_special_tokens";

  void read_key(const JsonObject& object, const char* key) {
    if (!object.has(key)) return;
    const std::string_view name = key;
    const Json& value = object.at(key);
    const bool is_role = std::find(kRoles.begin(), kRoles.end(), name) != kRoles.end();
    if (is_role || (name.ends_with("_token") && (value.is_string() || value.is_object()))) {
      add(object, key, key);
    } else if ((name == kListed || name == "extra_special_tokens") && value.is_structured()) {
      // A list of tokens or, in transformers 5, an object of roles and tokens.
      for (const auto& item : value.items()) {
        const Json holder = {{key, item.value()}};
        add(JsonObject(holder, object.file()), key, value.is_array() ? kListed : item.key());
      }
    }
  }

  // An empty text counts as none.
  void add(const JsonObject& object, const char* key, const std::string& role) {
    AddedToken token = special_token(object, key);
    if (!token.content.empty()) {
      tokens_.emplace_back(role, NamedToken{std::move(token), object.file() + ": " + object.path_of(key)});
    }
  }

  std::vector<Entry> tokens_;
};

int32_t parse_id(const std::string& text, const JsonObject& object) {
  int32_t id = -1;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, id);
  if (error == std::errc() && stop == end && id >= 0) return id;
  throw Error(
      ErrorCode::kBadFile, "wrong key",
      {.file = object.file(), .place = "added_tokens_decoder", .expected = "a token id", .got = text});
}

void sort_by_id(std::vector<NamedToken>& tokens) {
  std::stable_sort(tokens.begin(), tokens.end(),
                   [](const NamedToken& a, const NamedToken& b) { return a.token.id < b.token.id; });
}

// {"32000": {"content": "<|user|>", ...}, ...}
std::vector<NamedToken> read_decoder(const JsonObject& object) {
  std::vector<NamedToken> tokens;
  const JsonObject decoder = object.object("added_tokens_decoder");
  for (const auto& item : decoder.json().items()) {
    AddedToken token = read_added_token(
        JsonObject(item.value(), object.file(), "added_tokens_decoder." + std::string(item.key())));
    token.id = parse_id(item.key(), object);
    if (token.content.empty()) continue;
    tokens.push_back({std::move(token), object.file() + ": added_tokens_decoder", /*overrides=*/true});
  }
  sort_by_id(tokens);
  return tokens;
}

// {"<|user|>": 32000, ...}. A token is special if another file names it as special.
std::vector<NamedToken> read_added_tokens(const JsonObject& object, const SpecialNames& names) {
  std::vector<NamedToken> tokens;
  for (const auto& item : object.json().items()) {
    const Json holder = {{"id", item.value()}};
    AddedToken token{.content = item.key(), .special = names.names(item.key())};
    token.normalized = !token.special;
    token.id = static_cast<int32_t>(
        JsonObject(holder, object.file(), "\"" + token.content + "\"").integer("id", 0, INT32_MAX));
    if (!token.content.empty()) tokens.push_back({std::move(token), object.file()});
  }
  sort_by_id(tokens);
  return tokens;
}

// Classes that only wrap a tokenizer.json do not read add_prefix_space; the families' own classes do.
bool reads_prefix_space(std::string tokenizer_class, const std::string& model_type) {
  if (tokenizer_class.empty()) return model_type.empty() || model_type == "gpt2" || model_type == "gpt_neox";
  if (tokenizer_class.ends_with("Fast")) tokenizer_class.resize(tokenizer_class.size() - 4);
  return tokenizer_class != "PreTrainedTokenizer" && tokenizer_class != "TokenizersBackend";
}

class ConfigReader {
 public:
  ConfigReader(const HubDocuments& documents, const std::string& folder)
      : documents_(documents), folder_(folder) {}

  TokenizerConfig read() {
    with_json("tokenizer_config.json", [&](const JsonObject& object) { read_settings(object); });
    read_names();
    with_json("generation_config.json", [&](const JsonObject& object) { read_ids(object); });
    with_json("config.json", [&](const JsonObject& object) { read_model(object); });
    if (!reads_prefix_space(class_, model_type_)) config_.add_prefix_space.reset();
    return std::move(config_);
  }

 private:
  template <typename Fn>
  void with_json(const char* name, Fn fn) {
    const auto document = documents_.find(name);
    if (document != documents_.end()) fn(JsonObject(document->second, folder_ + "/" + name));
  }

  static std::optional<bool> flag(const JsonObject& object, const char* key) {
    return object.has(key) ? std::optional(object.boolean_or(key, false)) : std::nullopt;
  }

  void read_settings(const JsonObject& object) {
    config_.add_bos = flag(object, "add_bos_token");
    config_.add_eos = flag(object, "add_eos_token");
    config_.add_prefix_space = flag(object, "add_prefix_space");
    config_.prefix_everywhere = object.boolean_or("legacy", false);
    if (object.has("tokenizer_class")) class_ = object.string("tokenizer_class");
    names_.read(object);
    has_decoder_ = object.has("added_tokens_decoder");
    if (has_decoder_) config_.tokens = read_decoder(object);
  }

  void read_names() {
    SpecialNames map;
    with_json("special_tokens_map.json", [&](const JsonObject& object) { map.read(object); });
    if (has_decoder_) {
      names_.append_to(config_.tokens, /*ignored=*/false);
      map.append_to(config_.tokens, /*ignored=*/true);
      names_.fill_from(map);  // where the roles are
    } else {
      map.fill_from(names_);
      names_ = std::move(map);
      with_json("added_tokens.json",
                [&](const JsonObject& object) { config_.tokens = read_added_tokens(object, names_); });
      names_.append_to(config_.tokens, /*ignored=*/false);
    }
    for (const auto& [choice, key] :
         {std::pair(&config_.bos, "bos_token"), std::pair(&config_.eos, "eos_token")}) {
      if (const NamedToken* named = names_.role(key)) choice->text = named->token.content;
    }
    for (const char* key : kRoles) {
      if (const NamedToken* named = names_.role(key)) config_.token_texts[key] = named->token.content;
    }
  }

  void read_ids(const JsonObject& object) {
    fill(config_.bos.id, token_id(object, "bos_token_id"));
    fill(config_.eos.id, token_id(object, "eos_token_id"));
  }

  // Reads config.json, which may be of any family and is read in full elsewhere: here only well-formed values
  // count.
  void read_model(const JsonObject& object) {
    read_ids(object);
    const auto text = [&](const char* key) {
      return object.has(key) && object.at(key).is_string() ? object.string(key) : std::string();
    };
    if (class_.empty()) class_ = text("tokenizer_class");
    model_type_ = text("model_type");
    if (object.has("vocab_size") && object.at("vocab_size").is_number_integer()) {
      config_.model_vocab_size = object.integer_or("vocab_size", 0, INT64_MIN, INT64_MAX);
    }
  }

  const HubDocuments& documents_;
  const std::string& folder_;
  TokenizerConfig config_;
  SpecialNames names_;
  bool has_decoder_ = false;
  std::string class_, model_type_;
};

}  // namespace

TokenizerConfig parse_tokenizer_config(const HubDocuments& documents, const std::string& folder) {
  return ConfigReader(documents, folder).read();
}

TokenizerConfig read_tokenizer_config(const std::string& folder) {
  HubDocuments documents;
  for (const char* name : {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
                           "generation_config.json", "config.json"}) {
    const std::string path = folder + "/" + name;
    if (file_exists(path)) documents.emplace(name, read_json(path, kMaxJsonBytes));
  }
  TokenizerConfig config = parse_tokenizer_config(documents, folder);
  config.chat_templates = read_chat_templates(folder);
  return config;
}

}  // namespace sepllm
