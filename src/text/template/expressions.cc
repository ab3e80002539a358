// Evaluates each kind of expression.
#include <string>
#include <utility>
#include <vector>

#include "text/template/compare.h"
#include "text/template/interpreter.h"
#include "text/template/python_form.h"

namespace sepllm::jinja {

Value ConstantExpression::evaluate(Interpreter&) const { return value; }
Value NameExpression::evaluate(Interpreter& run) const { return run.lookup(name); }

Value ListExpression::evaluate(Interpreter& run) const {
  std::vector<Value> values;
  values.reserve(items.size());
  for (const ExpressionPtr& item : items) values.push_back(run.evaluate(*item));
  return Value::list(std::move(values), run.budget(), is_tuple ? List::Kind::kTuple : List::Kind::kList);
}

Value DictExpression::evaluate(Interpreter& run) const {
  std::vector<std::pair<Value, Value>> values;
  for (const auto& [key, value] : items) {
    Value k = run.evaluate(*key);
    set_key(values, std::move(k), run.evaluate(*value), run.budget());
  }
  return Value::dict(std::move(values), run.budget());
}

Value SignExpression::evaluate(Interpreter& run) const {
  const Value value = run.evaluate(*operand);
  if (value.is_undefined()) fail_undefined(value);
  if (!value.is_number()) fail("a value of type " + std::string(value.type_name()) + " has no sign");
  return negative ? negated(value) : arithmetic(Operator::kAdd, Value::integer(0), value);
}

Value NotExpression::evaluate(Interpreter& run) const {
  return Value::boolean(!is_true(run.evaluate(*operand), run.budget()));
}

Value LogicExpression::evaluate(Interpreter& run) const {
  Value value = run.evaluate(*left);
  return is_true(value, run.budget()) == is_and ? run.evaluate(*right) : value;
}

Value ArithmeticExpression::evaluate(Interpreter& run) const {
  const Value a = run.evaluate(*left);
  return binary(run, op, a, run.evaluate(*right));
}

Value ConcatExpression::evaluate(Interpreter& run) const {
  MarkedText text;
  for (const ExpressionPtr& part : parts) append_str(text, run.evaluate(*part), run.numbers(), run.budget());
  return Value::text(std::move(text));
}

namespace {

bool holds(Interpreter& run, Comparison op, const Value& a, const Value& b) {
  switch (op) {
    case Comparison::kEqual:
      return equal(a, b, run.budget());
    case Comparison::kNotEqual:
      return !equal(a, b, run.budget());
    case Comparison::kLess:
      return order(a, b, run.budget()) < 0;
    case Comparison::kLessEqual:
      return order(a, b, run.budget()) <= 0;
    case Comparison::kGreater:
      return order(a, b, run.budget()) > 0;
    case Comparison::kGreaterEqual:
      return order(a, b, run.budget()) >= 0;
    case Comparison::kIn:
      return contains(b, a, run.budget());
    case Comparison::kNotIn:
      return !contains(b, a, run.budget());
  }
  return false;
}

}  // namespace

Value CompareExpression::evaluate(Interpreter& run) const {
  Value left = run.evaluate(*first);
  for (const auto& [op, other] : others) {
    Value right = run.evaluate(*other);
    if (!holds(run, op, left, right)) return Value::boolean(false);
    left = std::move(right);
  }
  return Value::boolean(true);
}

Value ConditionalExpression::evaluate(Interpreter& run) const {
  if (is_true(run.evaluate(*condition), run.budget())) return run.evaluate(*value);
  if (otherwise != nullptr) return run.evaluate(*otherwise);
  return Value::undefined("an inline if without else was false");
}

Value AttributeExpression::evaluate(Interpreter& run) const {
  return run.attribute(run.evaluate(*object), name);
}

Value ItemExpression::evaluate(Interpreter& run) const {
  const Value of = run.evaluate(*object);
  return run.item(of, run.evaluate(*key));
}

Value SliceExpression::evaluate(Interpreter& run) const {
  const Value of = run.evaluate(*object);
  const auto bound = [&](const ExpressionPtr& part) { return part ? run.evaluate(*part) : Value(); };
  const Value from = bound(start), to = bound(stop);
  return run.slice(of, from, to, bound(step));
}

Value CallExpression::evaluate(Interpreter& run) const {
  const Value function = run.evaluate(*callee);
  return run.call(function, run.arguments(arguments));
}

Value FilterExpression::evaluate(Interpreter& run) const {
  const Value subject = run.evaluate(*operand);
  return run.filter(name, subject, run.arguments(arguments));
}

Value TestExpression::evaluate(Interpreter& run) const {
  const Value subject = run.evaluate(*operand);
  return Value::boolean(run.test(name, subject, run.arguments(arguments)) != negated);
}

}  // namespace sepllm::jinja
