#include "apps/layer_lines.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "model/config_fields.h"

namespace sepllm {
namespace {

std::string rope_text(const ModelConfig& config, int64_t rope) {
  if (rope == LayerSpec::kNoRope) return "no rope";
  const RopeConfig& r = config.ropes[static_cast<size_t>(rope)];
  return fmt::format("rope with theta {}{}", r.theta, r.type == "default" ? "" : ", type " + r.type);
}

// A layer's value of a field in words.
std::string value_text(const ModelConfig& config, const std::string& field, const Json& value) {
  if (field == "own_window") {
    const auto window = value.get<int64_t>();
    return window > 0 ? fmt::format("own window of {} tokens", window) : "no window of its own";
  }
  if (field == "layer_rope") return rope_text(config, value.get<int64_t>());
  if (field == "norm_before") return value.get<bool>() ? "norm before" : "no norm before";
  if (field == "norm_after") return value.get<bool>() ? "norm after" : "no norm after";
  if (field == "qk_norm") return "norm of queries and keys: " + value.get<std::string>();
  std::string name = field;
  std::replace(name.begin(), name.end(), '_', ' ');
  return name + ": " + (value.is_string() ? value.get<std::string>() : json_text(value));
}

// What most models have in all layers.
bool is_usual(const std::string& field, const Json& value) {
  const std::pair<const char*, Json> usual[] = {
      {"own_window", 0}, {"norm_before", true}, {"norm_after", false}, {"qk_norm", "none"}};
  const auto* it =
      std::find_if(std::begin(usual), std::end(usual), [&](const auto& u) { return u.first == field; });
  return it == std::end(usual) || it->second == value;  // the others are shown only where they differ
}

void append(std::string* text, const std::string& more) { *text += (text->empty() ? "" : ", ") + more; }

// Runs of numbers: "0-4, 6-10"; of many that lie at equal distances only the first two and the last.
std::string ranges_text(const std::vector<int64_t>& numbers) {
  std::vector<std::pair<int64_t, int64_t>> runs;
  for (const int64_t n : numbers) {
    if (!runs.empty() && runs.back().second + 1 == n) {
      runs.back().second = n;
    } else {
      runs.emplace_back(n, n);
    }
  }
  const int64_t distance = runs.size() < 2 ? 0 : runs[1].first - runs[0].first;
  const int64_t length = runs[0].second - runs[0].first;
  bool regular = runs.size() > 4;
  for (size_t i = 1; i < runs.size(); ++i) {
    regular &= runs[i].first - runs[i - 1].first == distance;
    const int64_t own = runs[i].second - runs[i].first;
    regular &= own == length || (own < length && i + 1 == runs.size());  // (the model may end in a run)
  }
  std::vector<std::string> parts;
  for (size_t i = 0; i < runs.size(); ++i) {
    if (regular && i == 2) parts.emplace_back("...");
    if (regular && i >= 2 && i + 1 < runs.size()) continue;
    const auto& [first, last] = runs[i];
    parts.push_back(first == last ? std::to_string(first) : fmt::format("{}-{}", first, last));
  }
  return fmt::format("{}", fmt::join(parts, ", "));
}

}  // namespace

std::vector<std::string> layer_lines(const ModelConfig& config) {
  std::string of_all;
  std::vector<std::string> of_layer(static_cast<size_t>(config.n_layers));
  for (const ConfigField& field : config_fields(config)) {
    if (!field.of_layers || !field.shown) continue;
    const Json& value = *field.shown;
    if (!value.is_array()) {
      if (!is_usual(field.name, value)) append(&of_all, value_text(config, field.name, value));
      continue;
    }
    for (size_t l = 0; l < of_layer.size(); ++l)
      append(&of_layer[l], value_text(config, field.name, value[l]));
  }
  std::vector<std::string> lines;
  if (!of_all.empty()) lines.push_back("all: " + of_all);
  std::vector<std::pair<std::string, std::vector<int64_t>>> sets;
  for (int64_t l = 0; l < config.n_layers; ++l) {
    const std::string& text = of_layer[static_cast<size_t>(l)];
    if (text.empty()) continue;  // layers are equal
    auto set = std::find_if(sets.begin(), sets.end(), [&](const auto& s) { return s.first == text; });
    if (set == sets.end()) set = sets.insert(sets.end(), {text, {}});
    set->second.push_back(l);
  }
  for (size_t i = 0; i < sets.size(); ++i) {
    if (lines.size() + 1 == kMostLayerLines && i + 1 < sets.size()) {
      lines.push_back(fmt::format("and {} more kinds of layers (--json lists all)", sets.size() - i));
      break;
    }
    lines.push_back(ranges_text(sets[i].second) + ": " + sets[i].first);
  }
  return lines;
}

}  // namespace sepllm
