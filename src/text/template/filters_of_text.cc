// Filters whose results are texts.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/template/compare.h"
#include "text/template/filters.h"
#include "text/template/text_operations.h"

namespace sepllm::jinja {
namespace {

template <LetterCase letter_case>
Value change_case(Interpreter& run, const Value& subject, Parameters& parameters) {
  parameters.done();
  return Value::text(with_case(run.str_text(subject), letter_case, run.budget()));
}

Value trim(Interpreter& run, const Value& subject, Parameters& parameters) {
  const Text* characters = parameters.text("chars");
  parameters.done();
  const Text* own = subject.as_text();
  return Value::text(stripped(run, run.str_text(subject), characters, Sides::kBoth), own && own->is_markup);
}

// Unlike in str.title(), words begin only after these characters.
Value title(Interpreter& run, const Value& subject, Parameters& parameters) {
  parameters.done();
  const MarkedText text = run.str_text(subject);
  const std::string& bytes = text.bytes();
  const auto between = [](char32_t c) {
    return is_space(c) ||
           (c < 0x80 && std::string_view("-({[<").find(static_cast<char>(c)) != std::string_view::npos);
  };
  MarkedText out;
  size_t length = 0;
  for (size_t at = 0; at < bytes.size();) {
    size_t end = at;
    const bool gap = between(code_point_at(bytes, at, length));
    while (end < bytes.size() && between(code_point_at(bytes, end, length)) == gap) end += length;
    code_point_at(bytes, at, length);
    run.budget().step();
    out.append(with_case(text.slice(at, at + length), LetterCase::kUpper, run.budget()));
    out.append(with_case(text.slice(at + length, end), LetterCase::kLower, run.budget()));
    at = end;
  }
  return Value::text(std::move(out));
}

Value replace(Interpreter& run, const Value& subject, Parameters& parameters) {
  const MarkedText from = run.str_text(parameters.required("old"));
  const MarkedText to = run.str_text(parameters.required("new"));
  const int64_t most = parameters.integer_or("count", -1);
  parameters.done();
  return Value::text(replaced(run, run.str_text(subject), from, to, most));
}

Value join(Interpreter& run, const Value& subject, Parameters& parameters) {
  const Value* given = parameters.next("d");
  const Value* attribute = parameters.next("attribute");
  parameters.done();
  const MarkedText separator = given != nullptr ? run.str_text(*given) : MarkedText();
  MarkedText out;
  bool first = true;
  for (const Value& item : run.items_of(subject)) {
    if (!first) {
      run.budget().make(separator.size());
      out.append(separator);
    }
    first = false;
    const MarkedText text = run.str_text(value_at(run, item, attribute, nullptr));
    run.budget().make(text.size());
    out.append(text);
  }
  return Value::text(std::move(out));
}

Value indent(Interpreter& run, const Value& subject, Parameters& parameters) {
  const Value* width = parameters.next("width");
  const bool first = parameters.boolean_or("first", false, run.budget());
  const bool blank = parameters.boolean_or("blank", false, run.budget());
  parameters.done();
  if (subject.as_text() == nullptr)
    fail("filter 'indent' takes a string, not " + std::string(subject.type_name()));
  MarkedText margin("    ", Origin::kTemplate);
  int64_t buffer;
  if (width != nullptr && width->as_text() != nullptr) {
    margin = width->as_text()->text;
  } else if (width != nullptr) {
    const int64_t* n = width->as_integer(buffer);
    if (n == nullptr) parameters.refuse("'width' must be an integer or a string");
    margin = justified(run, MarkedText(), *n, MarkedText(" ", Origin::kTemplate), true, false);
  }
  MarkedText text = subject.as_text()->text;
  text.append("\n", Origin::kTemplate);  // as in Jinja, so that an empty line at the end counts
  MarkedText out;
  bool at_first = true;
  for (const Value& line : split_lines(run, text, false)) {
    const MarkedText& content = line.as_text()->text;
    if (!at_first) out.append("\n", Origin::kTemplate);
    run.budget().make(margin.size() + content.size() + 1);
    if (at_first ? first : blank || !content.empty()) out.append(margin);
    out.append(content);
    at_first = false;
  }
  return Value::text(std::move(out));
}

Value to_string(Interpreter& run, const Value& subject, Parameters& parameters) {
  parameters.done();
  return run.str(subject);
}

Value safe(Interpreter& run, const Value& subject, Parameters& parameters) {
  parameters.done();
  return Value::text(run.str_text(subject), true);
}

Value escape(Interpreter& run, const Value& subject, Parameters& parameters) {
  parameters.done();
  if (const Text* text = subject.as_text(); text != nullptr && text->is_markup) return subject;
  return Value::text(html_escaped(run, run.str_text(subject)), true);
}

Value center(Interpreter& run, const Value& subject, Parameters& parameters) {
  const int64_t width = parameters.integer_or("width", 80);
  parameters.done();
  return Value::text(
      justified(run, run.str_text(subject), width, MarkedText(" ", Origin::kTemplate), true, true));
}

// "%s and %s" | format(a, b)
Value format(Interpreter& run, const Value& subject, Parameters& parameters) {
  std::vector<Value> values = parameters.rest();
  parameters.done();
  const Value text = run.str(subject);
  return percent_format(run, *text.as_text(),
                        Value::list(std::move(values), run.budget(), List::Kind::kTuple));
}

}  // namespace

const FilterTable& text_filters() {
  static const FilterTable kFilters = {{"capitalize", change_case<LetterCase::kCapitalized>},
                                       {"center", center},
                                       {"e", escape},
                                       {"escape", escape},
                                       {"format", format},
                                       {"indent", indent},
                                       {"join", join},
                                       {"lower", change_case<LetterCase::kLower>},
                                       {"replace", replace},
                                       {"safe", safe},
                                       {"string", to_string},
                                       {"title", title},
                                       {"trim", trim},
                                       {"upper", change_case<LetterCase::kUpper>}};
  return kFilters;
}

Value without_case(Interpreter& run, const Value& value) {
  const Text* text = value.as_text();
  return text == nullptr ? value : Value::text(with_case(text->text, LetterCase::kLower, run.budget()));
}

}  // namespace sepllm::jinja
