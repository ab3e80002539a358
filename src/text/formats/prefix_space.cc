#include "text/formats/prefix_space.h"

#include <functional>
#include <utility>

namespace sepllm {
namespace {

constexpr int kMostSequences = 64;  // limit on nested Sequences; the file's reader allows as many

bool has_string(const Json& step, const char* key, const char* value) {
  return step.is_object() && step.contains(key) && step[key].is_string() && step[key] == value;
}

// Calls change(step) for each step of the sequence under `value`; a step for which it returns false is
// removed.
void for_each_json_step(Json& value, const char* list, const std::function<bool(Json&)>& change,
                        int depth = 0) {
  if (!value.is_object() || depth > kMostSequences) return;
  if (!has_string(value, "type", "Sequence")) {
    if (!change(value)) value = nullptr;
    return;
  }
  if (!value.contains(list) || !value[list].is_array()) return;
  Json kept = Json::array();
  for (Json& step : value[list]) {
    for_each_json_step(step, list, change, depth + 1);
    if (!step.is_null()) kept.push_back(std::move(step));
  }
  value[list] = std::move(kept);
}

void set_metaspace(Json& step, bool add, bool everywhere) {
  const bool adds =
      !has_string(step, "prepend_scheme", "never") && step.value("add_prefix_space", Json(true)) == true;
  if (adds == add) return;
  step["add_prefix_space"] = add;
  step["prepend_scheme"] = !add ? "never" : everywhere ? "always" : "first";
}

}  // namespace

void set_prefix_space(Json& document, bool add, bool everywhere) {
  if (!document.is_object()) return;
  const auto change = [&](const char* key, const char* list, const std::function<bool(Json&)>& fn) {
    if (document.contains(key)) for_each_json_step(document[key], list, fn);
  };
  change("normalizer", "normalizers", [&](Json& step) {
    return add || !has_string(step, "type", "Prepend") || !has_string(step, "prepend", "\u2581");
  });
  change("pre_tokenizer", "pretokenizers", [&](Json& step) {
    if (has_string(step, "type", "ByteLevel")) step["add_prefix_space"] = add;
    if (has_string(step, "type", "Metaspace")) set_metaspace(step, add, everywhere);
    return true;
  });
  change("decoder", "decoders", [&](Json& step) {
    if (has_string(step, "type", "Metaspace")) set_metaspace(step, add, everywhere);
    return add || !has_string(step, "type", "Strip") || !has_string(step, "content", " ");
  });
}

}  // namespace sepllm
