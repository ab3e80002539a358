// The operators + - * / // % ** on texts, lists and numbers.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "text/template/compare.h"
#include "text/template/interpreter.h"

namespace sepllm::jinja {
namespace {

[[noreturn]] void refuse(Operator op, const Value& a, const Value& b) {
  if (a.is_undefined()) fail_undefined(a);
  if (b.is_undefined()) fail_undefined(b);
  fail("unsupported operands of '" + std::string(operator_sign(op)) + "': " + a.type_name() + " and " +
       b.type_name());
}

Value joined(Interpreter& run, const Text& a, const Text& b) {
  const bool is_markup = a.is_markup || b.is_markup;
  MarkedText text = is_markup && !a.is_markup ? html_escaped(run, a.text) : a.text;
  run.budget().make(text.size() + b.text.size());
  text.append(is_markup && !b.is_markup ? html_escaped(run, b.text) : b.text);
  return Value::text(std::move(text), is_markup);
}

Value joined(Interpreter& run, const List& a, const List& b) {
  std::vector<Value> items = a.items;
  items.insert(items.end(), b.items.begin(), b.items.end());
  return Value::list(std::move(items), run.budget(), a.kind);
}

// How often parts of this size may be repeated; it is charged before they are made.
int64_t repetitions(Interpreter& run, int64_t times, size_t bytes) {
  if (times <= 0 || bytes == 0) return 0;
  times = std::min(times, run.budget().limits().bytes + 1);  // no more than what the budget refuses anyway
  run.budget().make(static_cast<size_t>(times) * bytes);
  return times;
}

Value repeated(Interpreter& run, const Value& value, int64_t times) {
  if (const Text* text = value.as_text()) {
    MarkedText out;
    for (int64_t k = repetitions(run, times, text->text.size()); k > 0; --k) out.append(text->text);
    return Value::text(std::move(out), text->is_markup);
  }
  const List& list = *value.as_list();
  std::vector<Value> items;
  for (int64_t k = repetitions(run, times, list.items.size() * sizeof(Value)); k > 0; --k) {
    items.insert(items.end(), list.items.begin(), list.items.end());
  }
  return Value::list(std::move(items), run.budget(), list.kind);
}

bool is_repeatable(const Value& value) {
  const List* list = value.as_list();
  return value.as_text() != nullptr ||
         (list != nullptr && (list->kind == List::Kind::kList || list->kind == List::Kind::kTuple));
}

}  // namespace

Value binary(Interpreter& run, Operator op, const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) return arithmetic(op, a, b);
  const Text* text = a.as_text();
  if (op == Operator::kAdd) {
    if (text != nullptr && b.as_text() != nullptr) return joined(run, *text, *b.as_text());
    const List *x = a.as_list(), *y = b.as_list();
    if (x != nullptr && y != nullptr && x->kind == y->kind && is_repeatable(a)) return joined(run, *x, *y);
  }
  if (op == Operator::kMultiply) {
    int64_t buffer;
    if (const int64_t* times = b.as_integer(buffer); times && is_repeatable(a))
      return repeated(run, a, *times);
    if (const int64_t* times = a.as_integer(buffer); times && is_repeatable(b))
      return repeated(run, b, *times);
  }
  if (op == Operator::kModulo && text != nullptr) return percent_format(run, *text, b);
  refuse(op, a, b);
}

}  // namespace sepllm::jinja
