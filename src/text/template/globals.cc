// The functions that every template has: range, dict, namespace, and those that transformers adds.
#include <algorithm>
#include <array>
#include <cstdint>
#include <ctime>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/template/compare.h"
#include "text/template/interpreter.h"

namespace sepllm::jinja {
namespace {

constexpr int64_t kLongestRange = 100'000;  // as in Jinja's sandbox

Value range_of(Interpreter& run, const Arguments& arguments) {
  Parameters parameters("range()", arguments);
  std::optional<int64_t> start = parameters.integer("start"), stop = parameters.integer("stop");
  const int64_t step = parameters.integer("step").value_or(1);
  parameters.done();
  if (!start) parameters.refuse("takes 1 to 3 integers");
  if (!stop) stop = std::exchange(start, 0);
  if (step == 0) parameters.refuse("the step must not be zero");
  const auto distance = static_cast<__int128>(step > 0 ? 1 : -1) * (static_cast<__int128>(*stop) - *start);
  const auto size = static_cast<__int128>(step > 0 ? step : -static_cast<__int128>(step));
  const __int128 n = distance <= 0 ? 0 : (distance + size - 1) / size;
  if (n > kLongestRange) {
    throw Failure{ErrorCode::kOutOfRange, "range(): more than " + std::to_string(kLongestRange) + " items"};
  }
  std::vector<Value> items;
  for (int64_t k = 0; k < static_cast<int64_t>(n); ++k) items.push_back(Value::integer(*start + k * step));
  return Value::list(std::move(items), run.budget(), List::Kind::kRange);
}

// dict(mapping or pairs, **more)
std::vector<std::pair<Value, Value>> dict_items(Interpreter& run, const Arguments& arguments) {
  if (arguments.positional.size() > 1) fail("takes at most one mapping or list of pairs");
  std::vector<std::pair<Value, Value>> items;
  if (!arguments.positional.empty()) {
    const Value& given = arguments.positional[0];
    if (const Dict* dict = given.as_dict()) {
      items = dict->items;
    } else {
      if (given.is_undefined()) fail_undefined(given);
      for (const Value& pair : run.items_of(given)) {
        const std::vector<Value> both = run.items_of(pair);
        if (both.size() != 2) fail("dict() takes pairs, got " + std::to_string(both.size()) + " values");
        set_key(items, both[0], both[1], run.budget());
      }
    }
  }
  for (const auto& [name, value] : arguments.named) {
    set_key(items, Value::text(name, Origin::kTemplate), value, run.budget());
  }
  return items;
}

Value namespace_of(Interpreter& run, const Arguments& arguments) {
  Namespace* space = run.new_namespace();
  for (auto& [key, value] : dict_items(run, arguments)) {
    const Text* name = key.as_text();
    if (name == nullptr) fail("names of a namespace's attributes must be strings");
    if (name->text.bytes().starts_with('_')) fail("an attribute of a namespace cannot begin with '_'");
    space->attributes.emplace_back(name->text.bytes(), std::move(value));
  }
  return Value(Value::Storage(space));
}

// The result of Python's datetime.now().strftime() for the directives of C and GNU.
Value strftime_now(Interpreter& run, const Arguments& arguments) {
  constexpr std::string_view kDirectives = "aAbBcCdDeFgGhHIjklmMnprRsStTuUVwWxXyYzZ%";
  Parameters parameters("strftime_now()", arguments);
  const MarkedText& format = parameters.required_text("format").text;
  parameters.done();
  const std::string& bytes = format.bytes();
  MarkedText out;
  for (size_t at = 0; at < bytes.size();) {
    const Origin origin = format.origin_at(at);
    if (bytes[at] != '%') {
      out.append(bytes.substr(at, 1), origin);
      ++at;
      continue;
    }
    std::string directive = "%";
    if (++at < bytes.size() && bytes[at] == '-') directive += bytes[at++];
    if (at >= bytes.size() || kDirectives.find(bytes[at]) == std::string_view::npos || bytes[at] == 's') {
      fail_unsupported("strftime_now(): a directive of '" + bytes + "' is not supported");
    }
    directive += bytes[at++];
    if (directive == "%z" || directive == "%Z") continue;  // the time has no zone
    char buffer[128];
    const size_t n = std::strftime(buffer, sizeof buffer, directive.c_str(), &run.clock());
    run.budget().make(n + 1);
    out.append({buffer, n}, origin);
  }
  return Value::text(std::move(out));
}

constexpr std::array<const char*, 8> kGlobals = {"range",        "dict",   "namespace", "raise_exception",
                                                 "strftime_now", "cycler", "joiner",    "lipsum"};

}  // namespace

bool is_global(const std::string& name) {
  return std::find(kGlobals.begin(), kGlobals.end(), name) != kGlobals.end();
}

Value call_global(Interpreter& run, const std::string& name, const Arguments& arguments) {
  if (name == "range") return range_of(run, arguments);
  if (name == "dict") return Value::dict(dict_items(run, arguments), run.budget());
  if (name == "namespace") return namespace_of(run, arguments);
  if (name == "strftime_now") return strftime_now(run, arguments);
  if (name != "raise_exception") fail_unsupported("the function '" + name + "' is not supported");
  Parameters parameters("raise_exception()", arguments);
  const Value& message = parameters.required("message");
  parameters.done();
  fail("the template refuses the conversation: " + run.str_text(message).bytes());
}

}  // namespace sepllm::jinja
