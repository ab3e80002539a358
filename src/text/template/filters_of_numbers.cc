// Filters whose results are numbers.
#include <fmt/format.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>

#include "text/template/characters.h"
#include "text/template/compare.h"
#include "text/template/filters.h"

namespace sepllm::jinja {
namespace {

Value absolute(Interpreter&, const Value& subject, Parameters& parameters) {
  parameters.done();
  if (subject.is_undefined()) fail_undefined(subject);
  if (!subject.is_number()) parameters.refuse("takes a number, not " + std::string(subject.type_name()));
  const bool negative = as_double(subject) < 0;
  return negative ? negated(subject) : arithmetic(Operator::kAdd, Value::integer(0), subject);
}

Value to_int(Interpreter& run, const Value& subject, Parameters& parameters) {
  const Value* fallback = parameters.next("default");
  const int64_t base = parameters.integer_or("base", 10);
  parameters.done();
  const auto otherwise = [&] { return fallback != nullptr ? *fallback : Value::integer(0); };
  if (subject.is_undefined()) fail_undefined(subject);
  int64_t buffer;
  if (const int64_t* integer = subject.as_integer(buffer)) return Value::integer(*integer);
  std::optional<double> real;
  if (const double* value = subject.get<double>()) {
    real = *value;
    if (std::isinf(*value)) fail("infinity is no integer");
  }
  if (const Text* text = subject.as_text()) {
    run.take_number_from(text->text);
    run.budget().read(text->text.size());
    if (const std::optional<int64_t> value = parse_int(text->text.bytes(), base))
      return Value::integer(*value);
    real = parse_float(text->text.bytes());
  }
  if (!real || !std::isfinite(*real)) return otherwise();
  return Value::integer(truncated(*real));
}

Value to_float(Interpreter& run, const Value& subject, Parameters& parameters) {
  const Value* fallback = parameters.next("default");
  parameters.done();
  if (subject.is_undefined()) fail_undefined(subject);
  if (subject.is_number()) return Value::real(as_double(subject));
  if (const Text* text = subject.as_text()) {
    run.take_number_from(text->text);
    run.budget().read(text->text.size());
    if (const std::optional<double> value = parse_float(text->text.bytes())) return Value::real(*value);
  }
  return fallback != nullptr ? *fallback : Value::real(0.0);
}

// Python's round(): to the nearest, halves to even, based on the decimal digits that the number really has.
double rounded(double value, int precision) {
  if (precision >= 0) return std::strtod(fmt::format("{:.{}f}", value, precision).c_str(), nullptr);
  const double scale = std::pow(10.0, -precision);
  return std::nearbyint(value / scale) * scale;
}

Value round(Interpreter&, const Value& subject, Parameters& parameters) {
  const int64_t precision = parameters.integer_or("precision", 0);
  const Text* method = parameters.text("method");
  parameters.done();
  const std::string how = method == nullptr ? "common" : method->text.bytes();
  if (how != "common" && how != "ceil" && how != "floor")
    parameters.refuse("method must be common, ceil or floor");
  if (subject.is_undefined()) fail_undefined(subject);
  if (!subject.is_number()) parameters.refuse("takes a number, not " + std::string(subject.type_name()));
  if (precision < -300 || precision > 300) parameters.refuse("'precision' is out of range");
  int64_t buffer;
  const int64_t* integer = subject.as_integer(buffer);
  if (how == "common") {
    if (integer == nullptr) return Value::real(rounded(*subject.get<double>(), static_cast<int>(precision)));
    if (precision >= 0) return Value::integer(*integer);
    fail_unsupported("rounding integers to tens is not supported");
  }
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double scaled = as_double(subject) * scale;
  return Value::real((how == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale);
}

Value sum(Interpreter& run, const Value& subject, Parameters& parameters) {
  const Value* attribute = parameters.next("attribute");
  const Value* start = parameters.next("start");
  parameters.done();
  Value total = start != nullptr ? *start : Value::integer(0);
  if (total.as_text() != nullptr) parameters.refuse("cannot sum strings");
  for (const Value& item : run.items_of(subject)) {
    total = binary(run, Operator::kAdd, total, value_at(run, item, attribute, nullptr));
  }
  return total;
}

// Counts runs of letters, digits and underscores.
Value wordcount(Interpreter& run, const Value& subject, Parameters& parameters) {
  parameters.done();
  const MarkedText text = run.str_text(subject);
  run.budget().step(static_cast<int64_t>(text.size() / 16));
  int64_t n = 0;
  bool in_word = false;
  for (size_t at = 0, length = 0; at < text.size(); at += length) {
    const char32_t c = code_point_at(text.bytes(), at, length);
    const bool word = is_alpha(c) || is_numeric(c) || c == '_';
    n += word && !in_word;
    in_word = word;
  }
  return Value::integer(n);
}

}  // namespace

const FilterTable& number_filters() {
  static const FilterTable kFilters = {{"abs", absolute}, {"float", to_float}, {"int", to_int},
                                       {"round", round},  {"sum", sum},        {"wordcount", wordcount}};
  return kFilters;
}

}  // namespace sepllm::jinja
