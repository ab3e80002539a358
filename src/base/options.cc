#include "base/options.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/error.h"

namespace sepllm {
namespace {

template <typename T>
std::optional<T> parse_whole(std::string_view text) {
  T value{};
  const char* end = text.data() + text.size();
  const auto [stop, code] = std::from_chars(text.data(), end, value);
  return code == std::errc() && stop == end ? std::optional(value) : std::nullopt;
}

size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

std::string as_text(const Json& value) {
  return value.is_string() ? value.get<std::string>() : json_text(value);
}

}  // namespace

std::optional<int64_t> parse_integer(std::string_view text) { return parse_whole<int64_t>(text); }

std::string Option::default_text() const {
  if (!default_note.empty()) return default_note;
  const bool is_flag = value_name.empty();
  return is_flag || repeatable || default_value.is_null() ? "" : as_text(default_value);
}

void refuse_value(const std::string& option, const std::string& expected, const std::string& got) {
  throw Error(ErrorCode::kInvalidArgument, "wrong value for " + option_name(option),
              {.expected = expected, .got = "'" + got + "'"});
}

std::string nearest_name(const std::string& name, const std::vector<std::string>& candidates) {
  if (name.size() > 100) return "";
  std::string best;
  size_t best_distance = std::max<size_t>(2, name.size() / 3) + 1;
  for (const std::string& c : candidates) {
    const size_t d = edit_distance(name, c);
    if (d < best_distance) {
      best_distance = d;
      best = c;
    }
  }
  return best;
}

Option& OptionSet::add(Option option) {
  SEPLLM_CHECK(find(option.name) == nullptr);
  SEPLLM_CHECK(option.repeatable || !option.takes_list);
  if (option.get) option.default_value = option.get();
  return options_.emplace_back(std::move(option));
}

Option& OptionSet::add_int(const std::string& name, int64_t* target, int64_t min, int64_t max,
                           const std::string& help, const std::string& value_name) {
  return add({.name = name,
              .value_name = value_name,
              .help = help,
              .set =
                  [=](const std::string& text) {
                    const auto value = parse_integer(text);
                    if (!value || *value < min || *value > max) {
                      refuse_value(name,
                                   max == INT64_MAX ? fmt::format("an integer >= {}", min)
                                                    : fmt::format("an integer from {} to {}", min, max),
                                   text);
                    }
                    *target = *value;
                  },
              .get = [=] { return Json(*target); }});
}

Option& OptionSet::add_double(const std::string& name, double* target, double min, double max,
                              const std::string& help, const std::string& value_name) {
  return add({.name = name,
              .value_name = value_name,
              .help = help,
              .set =
                  [=](const std::string& text) {
                    const auto value = parse_whole<double>(text);
                    if (!value || !std::isfinite(*value) || *value < min || *value > max) {
                      refuse_value(name, fmt::format("a number from {} to {}", min, max), text);
                    }
                    *target = *value;
                  },
              .get = [=] { return Json(*target); }});
}

Option& OptionSet::add_string(const std::string& name, std::string* target, const std::string& help,
                              const std::string& value_name) {
  return add({.name = name,
              .value_name = value_name,
              .help = help,
              .set = [=](const std::string& text) { *target = text; },
              .get = [=] { return Json(*target); }});
}

Option& OptionSet::add_strings(const std::string& name, std::vector<std::string>* target,
                               const std::string& help, const std::string& value_name) {
  return add({.name = name,
              .value_name = value_name,
              .help = help,
              .repeatable = true,
              .set = [=](const std::string& text) { target->push_back(text); },
              .get = [=] { return Json(*target); }});
}

Option& OptionSet::add_choice(const std::string& name, std::string* target,
                              const std::vector<std::string>& choices, const std::string& help) {
  const std::string list = fmt::format("{}", fmt::join(choices, "|"));
  return add({.name = name,
              .value_name = list,
              .help = help,
              .choices = choices,
              .set =
                  [=](const std::string& text) {
                    if (std::find(choices.begin(), choices.end(), text) == choices.end())
                      refuse_value(name, list, text);
                    *target = text;
                  },
              .get = [=] { return Json(*target); }});
}

Option& OptionSet::add_flag(const std::string& name, bool* target, const std::string& help) {
  return add({.name = name,
              .help = help,
              .set =
                  [=](const std::string& text) {
                    if (text != "true" && text != "false") refuse_value(name, "true|false", text);
                    *target = text == "true";
                  },
              .get = [=] { return Json(*target); }});
}

const Option* OptionSet::find(const std::string& name) const {
  for (const Option& o : options_) {
    if (o.name == name) return &o;
  }
  return nullptr;
}

Option* OptionSet::find(const std::string& name) {
  return const_cast<Option*>(std::as_const(*this).find(name));
}

void OptionSet::set(const std::string& name, const std::string& value) {
  Option* option = find(name);
  if (option == nullptr) {
    std::vector<std::string> names;
    for (const Option& o : options_) names.push_back(o.name);
    const std::string near = nearest_name(name, names);
    throw Error(ErrorCode::kInvalidArgument, "unknown option " + option_name(name),
                {.hint = near.empty() ? "" : "did you mean " + option_name(near) + "?"});
  }
  option->set(value);
  option->was_set = true;
}

bool OptionSet::was_set(const std::string& name) const {
  const Option* option = find(name);
  SEPLLM_CHECK(option != nullptr);
  return option->was_set;
}

void OptionSet::apply_json(const JsonObject& object) {
  std::vector<std::string> names;
  for (const Option& o : options_) {
    if (o.in_json) names.push_back(o.name);
  }
  for (const auto& [key, value] : object.json().items()) {
    Option* option = find(key);
    if (option == nullptr || !option->in_json) {
      const std::string near = nearest_name(key, names);
      throw Error(ErrorCode::kInvalidArgument, "unknown key",
                  {.file = object.file(),
                   .place = object.path_of(key.c_str()),
                   .hint = near.empty() ? "" : "did you mean '" + near + "'?"});
    }
    if (option->was_set || value.is_null()) continue;
    const auto set_one = [&, name = key](const Json& one) {
      try {
        option->set(as_text(one));
      } catch (const Error& e) {
        throw Error(e.code(), e.what(), {.file = object.file(), .place = object.path_of(name.c_str())});
      }
    };
    if (value.is_array() && option->repeatable) {
      for (const Json& one : value) set_one(one);
    } else {
      set_one(value);
    }
    option->was_set = true;
  }
}

Json OptionSet::to_json() const {
  Json out = Json::object();
  for (const Option& o : options_) {
    if (o.in_json) out[o.name] = o.get();
  }
  return out;
}

}  // namespace sepllm
