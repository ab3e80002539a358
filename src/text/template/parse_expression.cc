// Parses the expressions of the grammar, in order of increasing precedence.
#include <array>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "text/template/parser.h"

namespace sepllm::jinja {
namespace {

using Type = Token::Type;

std::optional<Comparison> comparison_of(const Token& token) {
  constexpr std::array<std::pair<const char*, Comparison>, 6> kSigns = {{{"==", Comparison::kEqual},
                                                                         {"!=", Comparison::kNotEqual},
                                                                         {"<", Comparison::kLess},
                                                                         {"<=", Comparison::kLessEqual},
                                                                         {">", Comparison::kGreater},
                                                                         {">=", Comparison::kGreaterEqual}}};
  for (const auto& [sign, op] : kSigns) {
    if (token.is_operator(sign)) return op;
  }
  return std::nullopt;
}

}  // namespace

template <typename T>
std::unique_ptr<T> Parser::checked(std::unique_ptr<T> made) const {
  if (made->height > budget_.limits().nesting) {
    throw Failure{ErrorCode::kOutOfRange, "an expression of too many parts within each other", made->line};
  }
  return made;
}

bool Parser::tuple_ends(std::string_view end) const {
  const Type type = current().type;
  return type == Type::kVariableEnd || type == Type::kBlockEnd || current().is_operator(")") ||
         (!end.empty() && current().is_name(end));
}

ExpressionPtr Parser::tuple(bool conditional, std::string_view end, bool in_parentheses) {
  const int line = current().line;
  Expressions items;
  bool is_tuple = false;
  for (;;) {
    if (!items.empty()) expect_operator(",");
    if (tuple_ends(end)) break;
    items.push_back(expression(conditional));
    if (!current().is_operator(",")) break;
    is_tuple = true;
  }
  if (!is_tuple) {
    if (!items.empty()) return std::move(items.front());
    if (!in_parentheses) refuse_token("an expression");
  }
  return checked(std::make_unique<ListExpression>(line, std::move(items), true));
}

ExpressionPtr Parser::expression(bool conditional) {
  const Level level(budget_);
  return conditional ? conditional_expression() : logic_or();
}

ExpressionPtr Parser::conditional_expression() {
  ExpressionPtr value = logic_or();
  for (int line = current().line; skip_name("if"); line = current().line) {
    auto out = std::make_unique<ConditionalExpression>(line);
    out->condition = logic_or();
    if (skip_name("else")) {
      const Level level(budget_);
      out->otherwise = conditional_expression();
    }
    out->value = std::move(value);
    out->grow(out->condition);
    out->grow(out->otherwise);
    out->grow(out->value);
    value = checked(std::move(out));
  }
  return value;
}

ExpressionPtr Parser::logic_or() {
  ExpressionPtr left = logic_and();
  for (int line = current().line; skip_name("or"); line = current().line) {
    left = checked(std::make_unique<LogicExpression>(line, false, std::move(left), logic_and()));
  }
  return left;
}

ExpressionPtr Parser::logic_and() {
  ExpressionPtr left = logic_not();
  for (int line = current().line; skip_name("and"); line = current().line) {
    left = checked(std::make_unique<LogicExpression>(line, true, std::move(left), logic_not()));
  }
  return left;
}

ExpressionPtr Parser::logic_not() {
  const int line = current().line;
  if (!skip_name("not")) return comparison();
  const Level level(budget_);
  return std::make_unique<NotExpression>(line, logic_not());
}

ExpressionPtr Parser::comparison() {
  const int line = current().line;
  auto out = std::make_unique<CompareExpression>(line, sum());
  for (;;) {
    std::optional<Comparison> op = comparison_of(current());
    if (op) {
      take();
    } else if (skip_name("in")) {
      op = Comparison::kIn;
    } else if (current().is_name("not") && look().is_name("in")) {
      take();
      take();
      op = Comparison::kNotIn;
    } else {
      break;
    }
    out->others.emplace_back(*op, sum());
    out->grow(out->others.back().second);
  }
  return out->others.empty() ? std::move(out->first) : std::move(out);
}

ExpressionPtr Parser::sum() {
  ExpressionPtr left = concatenation();
  while (current().is_operator("+") || current().is_operator("-")) {
    const Token sign = take();
    const Operator op = sign.text == "+" ? Operator::kAdd : Operator::kSubtract;
    left = checked(std::make_unique<ArithmeticExpression>(sign.line, op, std::move(left), concatenation()));
  }
  return left;
}

ExpressionPtr Parser::concatenation() {
  const int line = current().line;
  Expressions parts;
  parts.push_back(product());
  while (skip_operator("~")) parts.push_back(product());
  if (parts.size() == 1) return std::move(parts.front());
  return std::make_unique<ConcatExpression>(line, std::move(parts));
}

ExpressionPtr Parser::product() {
  constexpr std::array<Operator, 4> kOperators = {Operator::kMultiply, Operator::kDivide,
                                                  Operator::kFloorDivide, Operator::kModulo};
  ExpressionPtr left = power();
  for (bool found = true; found;) {
    found = false;
    for (const Operator op : kOperators) {
      if (!current().is_operator(operator_sign(op))) continue;
      const int line = take().line;
      left = checked(std::make_unique<ArithmeticExpression>(line, op, std::move(left), power()));
      found = true;
      break;
    }
  }
  return left;
}

ExpressionPtr Parser::power() {
  ExpressionPtr left = unary(true);
  for (int line = current().line; skip_operator("**"); line = current().line) {
    left =
        checked(std::make_unique<ArithmeticExpression>(line, Operator::kPower, std::move(left), unary(true)));
  }
  return left;
}

ExpressionPtr Parser::unary(bool with_filters) {
  const Level level(budget_);
  const int line = current().line;
  ExpressionPtr operand;
  if (current().is_operator("-") || current().is_operator("+")) {
    const bool negative = take().text == "-";
    operand = std::make_unique<SignExpression>(line, negative, unary(false));
  } else {
    operand = primary();
  }
  operand = postfix(std::move(operand));
  return with_filters ? filters_and_tests(std::move(operand)) : std::move(operand);
}

ExpressionPtr Parser::primary() {
  const Token& token = current();
  const int line = token.line;
  if (token.type == Type::kName) {
    const std::string name = take().text;
    if (name == "true" || name == "True")
      return std::make_unique<ConstantExpression>(line, Value::boolean(true));
    if (name == "false" || name == "False")
      return std::make_unique<ConstantExpression>(line, Value::boolean(false));
    if (name == "none" || name == "None") return std::make_unique<ConstantExpression>(line, Value());
    if (macro_ != nullptr) {
      macro_->uses_caller |= name == "caller";
      macro_->uses_varargs |= name == "varargs";
      macro_->uses_kwargs |= name == "kwargs";
    }
    return std::make_unique<NameExpression>(line, name);
  }
  if (token.type == Type::kString) return string_constant();
  if (token.type == Type::kInteger || token.type == Type::kFloat) return number_constant();
  if (skip_operator("(")) {
    ExpressionPtr inner = tuple(true, "", true);
    expect_operator(")");
    return inner;
  }
  if (token.is_operator("[")) return list();
  if (token.is_operator("{")) return dictionary();
  refuse_token("an expression");
}

ExpressionPtr Parser::string_constant() {
  const int line = current().line;
  std::string text;
  while (current().type == Type::kString) text += take().text;
  return std::make_unique<ConstantExpression>(line, Value::text(std::move(text), Origin::kTemplate));
}

ExpressionPtr Parser::number_constant() {
  const Token token = take();
  if (token.type == Type::kFloat) {
    return std::make_unique<ConstantExpression>(token.line,
                                                Value::real(std::strtod(token.text.c_str(), nullptr)));
  }
  try {
    const std::optional<int64_t> value = parse_int(token.text, 0);
    return std::make_unique<ConstantExpression>(token.line, Value::integer(value.value_or(0)));
  } catch (Failure& failure) {
    failure.line = token.line;
    throw;
  }
}

ExpressionPtr Parser::list() {
  const int line = take().line;
  Expressions items;
  while (!current().is_operator("]")) {
    if (!items.empty()) expect_operator(",");
    if (current().is_operator("]")) break;
    items.push_back(expression());
  }
  expect_operator("]");
  return std::make_unique<ListExpression>(line, std::move(items), false);
}

ExpressionPtr Parser::dictionary() {
  auto out = std::make_unique<DictExpression>(take().line);
  while (!current().is_operator("}")) {
    if (!out->items.empty()) expect_operator(",");
    if (current().is_operator("}")) break;
    ExpressionPtr key = expression();
    expect_operator(":");
    ExpressionPtr value = expression();
    out->grow(key);
    out->grow(value);
    out->items.emplace_back(std::move(key), std::move(value));
  }
  expect_operator("}");
  return out;
}

ExpressionPtr Parser::postfix(ExpressionPtr operand) {
  for (;;) {
    if (current().is_operator(".") || current().is_operator("[")) {
      operand = subscript(std::move(operand));
    } else if (current().is_operator("(")) {
      operand = call(std::move(operand));
    } else {
      return operand;
    }
  }
}

ExpressionPtr Parser::filters_and_tests(ExpressionPtr operand) {
  for (;;) {
    if (skip_operator("|")) {
      auto next = filter();
      next->operand = std::move(operand);
      next->grow(next->operand);
      operand = checked(std::move(next));
    } else if (skip_name("is")) {
      operand = test(std::move(operand));
    } else if (current().is_operator("(")) {  // calls are also valid after filters and tests
      operand = call(std::move(operand));
    } else {
      return operand;
    }
  }
}

ExpressionPtr Parser::subscript(ExpressionPtr object) {
  const Token open = take();
  if (open.text == ".") {
    const Token name = take();
    if (name.type == Type::kName) {
      return checked(std::make_unique<AttributeExpression>(name.line, std::move(object), name.text));
    }
    if (name.type != Type::kInteger) refuse("expected a name or number after '.'");
    --at_;
    ExpressionPtr index = number_constant();
    return checked(std::make_unique<ItemExpression>(name.line, std::move(object), std::move(index)));
  }
  Expressions keys;
  ExpressionPtr sliced;
  while (!current().is_operator("]")) {
    if (!keys.empty()) expect_operator(",");
    ExpressionPtr key = current().is_operator(":") ? nullptr : expression();
    if (current().is_operator(":")) {
      if (!keys.empty()) refuse("a slice among several keys");
      sliced = slice(std::move(object), std::move(key));
      break;
    }
    keys.push_back(std::move(key));
  }
  expect_operator("]");
  if (sliced != nullptr) return sliced;
  if (keys.empty()) refuse("expected a key between '[' and ']'");
  ExpressionPtr key = keys.size() == 1 ? std::move(keys.front())
                                       : std::make_unique<ListExpression>(open.line, std::move(keys), true);
  return checked(std::make_unique<ItemExpression>(open.line, std::move(object), std::move(key)));
}

// Parses [start:stop:step], from the first colon on.
ExpressionPtr Parser::slice(ExpressionPtr object, ExpressionPtr start) {
  auto out = std::make_unique<SliceExpression>(take().line, std::move(object));
  out->start = std::move(start);
  const auto ends = [&] { return current().is_operator("]") || current().is_operator(":"); };
  if (!ends()) out->stop = expression();
  if (skip_operator(":") && !ends()) out->step = expression();
  out->grow(out->start);
  out->grow(out->stop);
  out->grow(out->step);
  return checked(std::move(out));
}

ExpressionPtr Parser::call(ExpressionPtr callee) {
  auto out = std::make_unique<CallExpression>(current().line);
  out->arguments = call_arguments();
  out->callee = std::move(callee);
  out->grow(out->callee);
  out->arguments.grow(*out);
  return checked(std::move(out));
}

CallArguments Parser::call_arguments() {
  CallArguments out;
  expect_operator("(");
  bool first = true;
  while (!current().is_operator(")")) {
    if (!first) {
      expect_operator(",");
      if (current().is_operator(")")) break;
    }
    first = false;
    if (skip_operator("*")) {
      if (out.spread || out.spread_named) refuse("invalid arguments of a call");
      out.spread = expression();
    } else if (skip_operator("**")) {
      if (out.spread_named) refuse("invalid arguments of a call");
      out.spread_named = expression();
    } else if (current().type == Type::kName && look().is_operator("=")) {
      if (out.spread_named) refuse("invalid arguments of a call");
      std::string name = take().text;
      take();
      out.named.emplace_back(std::move(name), expression());
    } else {
      if (out.spread || out.spread_named || !out.named.empty()) refuse("invalid arguments of a call");
      out.positional.push_back(expression());
    }
  }
  expect_operator(")");
  return out;
}

std::string Parser::dotted_name() {
  std::string name = expect_identifier();
  while (skip_operator(".")) name += "." + expect_identifier();
  return name;
}

// Parses what follows "|".
std::unique_ptr<FilterExpression> Parser::filter() {
  auto out = std::make_unique<FilterExpression>(current().line);
  out->name = dotted_name();
  if (current().is_operator("(")) out->arguments = call_arguments();
  out->arguments.grow(*out);
  return checked(std::move(out));
}

// Parses what follows "is".
ExpressionPtr Parser::test(ExpressionPtr operand) {
  auto out = std::make_unique<TestExpression>(current().line);
  out->negated = skip_name("not");
  out->name = dotted_name();
  const Token& next = current();
  const bool begins_value = next.type == Type::kName || next.type == Type::kString ||
                            next.type == Type::kInteger || next.type == Type::kFloat ||
                            next.is_operator("[") || next.is_operator("{");
  const bool ends = next.is_name("else") || next.is_name("or") || next.is_name("and");
  if (next.is_operator("(")) {
    out->arguments = call_arguments();
  } else if (begins_value && !ends) {
    if (next.is_name("is")) refuse("tests cannot be chained with 'is'");
    out->arguments.positional.push_back(postfix(primary()));
  }
  out->operand = std::move(operand);
  out->grow(out->operand);
  out->arguments.grow(*out);
  return checked(std::move(out));
}

}  // namespace sepllm::jinja
