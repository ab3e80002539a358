#include "text/formats/tokenizer_config.h"

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/utf8.h"

namespace sepllm {
namespace {

// "<s>" or {"content": "<s>", ...}; null and absent are silence.
std::optional<std::string> token_text(const JsonObject& object, const char* key) {
  if (!object.has(key)) return std::nullopt;
  if (object.at(key).is_object()) return object.object(key).string("content");
  return object.string(key);
}

// A string, or a list of {"name", "template"} of which "default" is taken (else the first).
std::optional<std::string> template_text(const JsonObject& object) {
  if (!object.has("chat_template")) return std::nullopt;
  const Json& value = object.at("chat_template");
  if (!value.is_array()) return object.string("chat_template");
  std::optional<std::string> chosen;
  for (const Json& member : value) {
    const JsonObject entry(member, object.file(), "chat_template[]");
    if (!chosen || entry.string("name") == "default") chosen = entry.string("template");
  }
  return chosen;
}

// An id, or the first of a list of ids.
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

void read_tokens(const JsonObject& object, TokenizerConfig& config) {
  fill(config.bos.text, token_text(object, "bos_token"));
  fill(config.eos.text, token_text(object, "eos_token"));
}

void read_settings(const JsonObject& object, TokenizerConfig& config) {
  if (object.has("add_bos_token")) config.add_bos = object.boolean_or("add_bos_token", false);
  if (object.has("add_eos_token")) config.add_eos = object.boolean_or("add_eos_token", false);
  fill(config.chat_template, template_text(object));
}

void read_ids(const JsonObject& object, TokenizerConfig& config) {
  fill(config.bos.id, token_id(object, "bos_token_id"));
  fill(config.eos.id, token_id(object, "eos_token_id"));
}

template <typename Fn>
void with_json(const std::string& path, Fn fn) {
  if (!file_exists(path)) return;
  const Json document = parse_json(read_file(path), path);
  fn(JsonObject(document, path));
}

}  // namespace

TokenizerConfig read_tokenizer_config(const std::string& folder) {
  TokenizerConfig config;
  const std::string template_path = folder + "/chat_template.jinja";
  if (file_exists(template_path)) {
    config.chat_template = read_file(template_path);
    if (utf8_find_invalid(*config.chat_template)) {
      throw Error(ErrorCode::kBadFile, "invalid UTF-8", {.file = template_path});
    }
  }
  with_json(folder + "/tokenizer_config.json", [&](const JsonObject& object) {
    read_tokens(object, config);
    read_settings(object, config);
  });
  with_json(folder + "/special_tokens_map.json",
            [&](const JsonObject& object) { read_tokens(object, config); });
  with_json(folder + "/generation_config.json", [&](const JsonObject& object) { read_ids(object, config); });
  with_json(folder + "/config.json", [&](const JsonObject& object) { read_ids(object, config); });
  return config;
}

}  // namespace sepllm
