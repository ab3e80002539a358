#include "text/steps/json_step.h"

#include <algorithm>
#include <cstddef>
#include <functional>
#include <initializer_list>
#include <string>

#include "base/error.h"
#include "base/utf8.h"

namespace sepllm {
namespace {

void visit_step(const JsonObject& step, const char* list,
                const std::function<void(const JsonObject&, const std::string&)>& visit) {
  const std::string type = step.string("type");
  if (type != "Sequence") return visit(step, type);
  refuse_unknown_keys(step, {"type", list});
  const Json& members = step.at(list);
  if (!members.is_array()) {
    throw Error(ErrorCode::kBadFile, "wrong type",
                {.file = step.file(), .place = step.path_of(list), .expected = "a list"});
  }
  for (size_t k = 0; k < members.size(); ++k) {
    const std::string path = step.path_of(list) + "[" + std::to_string(k) + "]";
    visit_step(JsonObject(members[k], step.file(), path), list, visit);
  }
}

}  // namespace

void refuse_unknown_keys(const JsonObject& object, std::initializer_list<const char*> known) {
  for (const auto& item : object.json().items()) {
    const bool found =
        std::any_of(known.begin(), known.end(), [&](const char* name) { return item.key() == name; });
    if (!found) {
      throw Error(ErrorCode::kUnsupported, "unknown key",
                  {.file = object.file(), .place = object.path_of(item.key().c_str())});
    }
  }
}

void for_each_step(const JsonObject& owner, const char* key, const char* list,
                   const std::function<void(const JsonObject&, const std::string& type)>& visit) {
  if (owner.has(key)) visit_step(owner.object(key), list, visit);
}

void unknown_step(const JsonObject& step, const std::string& type) {
  throw Error(ErrorCode::kUnsupported, "this kind of step is not supported",
              {.file = step.file(), .place = step.path_of("type"), .got = type});
}

std::string single_character(const JsonObject& step, const char* key, const std::string& fallback) {
  const std::string text = fallback.empty() ? step.string(key) : step.string_or(key, fallback);
  const auto first = utf8_decode(text);
  if (!first || static_cast<size_t>(first->length) != text.size()) {
    throw Error(ErrorCode::kBadFile, "wrong value",
                {.file = step.file(), .place = step.path_of(key), .expected = "one character", .got = text});
  }
  return text;
}

}  // namespace sepllm
