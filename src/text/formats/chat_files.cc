#include "text/formats/chat_files.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/utf8.h"

namespace sepllm {
namespace {

constexpr uint64_t kMaxFile = uint64_t{1} << 24;
constexpr const char* kMoreTemplates = "additional_chat_templates";

NamedTemplate from_file(const std::string& name, const std::string& path) {
  NamedTemplate out{name, read_file(path, kMaxFile), path};
  if (utf8_find_invalid(out.text)) throw Error(ErrorCode::kBadFile, "invalid UTF-8", {.file = path});
  return out;
}

// Reads a string, or a list of {"name", "template"}.
std::vector<NamedTemplate> from_json(const std::string& path) {
  if (!file_exists(path)) return {};
  const Json document = parse_json(read_file(path), path);
  const JsonObject object(document, path);
  if (!object.has("chat_template")) return {};
  const std::string place = path + ": chat_template";
  const Json& value = object.at("chat_template");
  if (!value.is_array()) return {{"default", object.string("chat_template"), place}};
  std::vector<NamedTemplate> out;
  for (const Json& member : value) {
    const JsonObject entry(member, path, "chat_template[]");
    out.push_back({entry.string("name"), entry.string("template"), place});
  }
  return out;
}

std::vector<std::string> names_of_more(const std::string& folder) {
  std::vector<std::string> names;
  const std::string more = folder + "/" + kMoreTemplates;
  if (!is_folder(more)) return names;
  for (const auto& entry : std::filesystem::directory_iterator(more)) {
    const std::string name = entry.path().filename();
    if (name.ends_with(".jinja")) names.push_back(name.substr(0, name.size() - 6));
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

std::vector<NamedTemplate> read_chat_templates(const std::string& folder) {
  std::vector<NamedTemplate> out;
  const std::string own = folder + "/chat_template.jinja";
  if (file_exists(own)) out.push_back(from_file("default", own));
  for (const std::string& name : names_of_more(folder)) {
    out.push_back(from_file(name, folder + "/" + kMoreTemplates + "/" + name + ".jinja"));
  }
  if (out.empty()) out = from_json(folder + "/tokenizer_config.json");
  if (out.empty()) out = from_json(folder + "/chat_template.json");
  return out;
}

std::vector<std::string> chat_template_files(const std::string& folder) {
  std::vector<std::string> out;
  for (const char* name : {"chat_template.jinja", "chat_template.json"}) {
    if (file_exists(folder + "/" + name)) out.emplace_back(name);
  }
  for (const std::string& name : names_of_more(folder)) {
    out.push_back(std::string(kMoreTemplates) + "/" + name + ".jinja");
  }
  return out;
}

}  // namespace sepllm
