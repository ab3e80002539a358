#include "text/template/template.h"

#include <cstdint>
#include <ctime>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/utf8.h"
#include "text/template/parser.h"

namespace sepllm::jinja {
namespace {

[[noreturn]] void throw_error(const Failure& failure, const std::string& file) {
  const std::string place = failure.line > 0 ? "line " + std::to_string(failure.line) : "";
  const bool raised = failure.code == ErrorCode::kInvalidArgument;
  throw Error(failure.code, failure.message,
              {.file = file,
               .place = place,
               .hint = raised ? "" : option_name("chat-format") + " chooses another format"});
}

Value from_json(const Json& json, Origin origin, Budget& budget) {
  budget.step();
  if (json.is_null()) return Value();
  if (json.is_boolean()) return Value::boolean(json.get<bool>());
  if (json.is_number_unsigned() && json.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) {
    throw Failure{ErrorCode::kOutOfRange, "an integer beyond 64 bits"};
  }
  if (json.is_number_integer()) return Value::integer(json.get<int64_t>());
  if (json.is_number()) return Value::real(json.get<double>());
  if (json.is_string()) {
    const auto& text = json.get_ref<const std::string&>();
    budget.make(text.size());
    return Value::text(text, origin);
  }
  if (json.is_array()) {
    std::vector<Value> items;
    for (const Json& item : json) items.push_back(from_json(item, origin, budget));
    return Value::list(std::move(items), budget);
  }
  std::vector<std::pair<Value, Value>> items;
  for (const auto& [key, value] : json.items()) {
    items.emplace_back(Value::text(key, origin), from_json(value, origin, budget));
  }
  return Value::dict(std::move(items), budget);
}

}  // namespace

Template::Template(std::string_view source, std::string file, const Limits& limits)
    : file_(std::move(file)), limits_(limits) {
  if (utf8_find_invalid(source)) throw Error(ErrorCode::kBadFile, "invalid UTF-8", {.file = file_});
  try {
    block_ = parse_template(source, limits_);
  } catch (const Failure& failure) {
    throw_error(failure, file_);
  }
}

MarkedText Template::render(const Interpreter::Variables& variables, const std::tm& clock) const {
  try {
    return Interpreter(limits_, variables, clock).render(block_);
  } catch (const Failure& failure) {
    throw_error(failure, file_);
  }
}

Value value_from_json(const Json& json, Origin origin, const Limits& limits) {
  Budget budget(limits);
  try {
    return from_json(json, origin, budget);
  } catch (const Failure& failure) {
    throw Error(failure.code, failure.message);
  }
}

}  // namespace sepllm::jinja
