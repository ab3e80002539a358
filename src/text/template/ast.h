// A template as a tree: expressions, which give values, and statements, which write text.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "text/template/numbers.h"
#include "text/template/value.h"

namespace sepllm::jinja {

class Interpreter;

struct Expression {
  explicit Expression(int l) : line(l) {}
  virtual ~Expression() = default;
  // Called by Interpreter::evaluate, which counts steps and applies limits.
  virtual Value evaluate(Interpreter& run) const = 0;
  // Must be called for each part; `part` may be null.
  void grow(const std::unique_ptr<Expression>& part) {
    if (part != nullptr && part->height >= height) height = part->height + 1;
  }
  void grow(const std::vector<std::unique_ptr<Expression>>& parts) {
    for (const auto& part : parts) grow(part);
  }
  int line;
  int height = 1;  // of the tree. The parser limits it, because everything that walks the tree is recursive.
};
using ExpressionPtr = std::unique_ptr<Expression>;
using Expressions = std::vector<ExpressionPtr>;

enum class Flow { kNext, kBreak, kContinue };

struct Statement {
  explicit Statement(int l) : line(l) {}
  virtual ~Statement() = default;
  virtual Flow execute(Interpreter& run) const = 0;
  int line;
};
using Block = std::vector<std::unique_ptr<Statement>>;

// ---- Expressions

struct ConstantExpression : Expression {
  ConstantExpression(int l, Value v) : Expression(l), value(std::move(v)) {}
  Value evaluate(Interpreter& run) const override;
  Value value;
};

struct NameExpression : Expression {
  NameExpression(int l, std::string n) : Expression(l), name(std::move(n)) {}
  Value evaluate(Interpreter& run) const override;
  std::string name;
};

struct ListExpression : Expression {
  ListExpression(int l, Expressions i, bool tuple) : Expression(l), items(std::move(i)), is_tuple(tuple) {
    grow(items);
  }
  Value evaluate(Interpreter& run) const override;
  Expressions items;
  bool is_tuple;
};

struct DictExpression : Expression {
  using Expression::Expression;
  Value evaluate(Interpreter& run) const override;
  std::vector<std::pair<ExpressionPtr, ExpressionPtr>> items;
};

struct SignExpression : Expression {
  SignExpression(int l, bool minus, ExpressionPtr o) : Expression(l), negative(minus), operand(std::move(o)) {
    grow(operand);
  }
  Value evaluate(Interpreter& run) const override;
  bool negative;
  ExpressionPtr operand;
};

struct NotExpression : Expression {
  NotExpression(int l, ExpressionPtr o) : Expression(l), operand(std::move(o)) { grow(operand); }
  Value evaluate(Interpreter& run) const override;
  ExpressionPtr operand;
};

struct LogicExpression : Expression {
  LogicExpression(int l, bool conjunction, ExpressionPtr a, ExpressionPtr b)
      : Expression(l), is_and(conjunction), left(std::move(a)), right(std::move(b)) {
    grow(left);
    grow(right);
  }
  Value evaluate(Interpreter& run) const override;
  bool is_and;
  ExpressionPtr left, right;
};

struct ArithmeticExpression : Expression {
  ArithmeticExpression(int l, Operator o, ExpressionPtr a, ExpressionPtr b)
      : Expression(l), op(o), left(std::move(a)), right(std::move(b)) {
    grow(left);
    grow(right);
  }
  Value evaluate(Interpreter& run) const override;
  Operator op;
  ExpressionPtr left, right;
};

// a ~ b ~ c
struct ConcatExpression : Expression {
  ConcatExpression(int l, Expressions p) : Expression(l), parts(std::move(p)) { grow(parts); }
  Value evaluate(Interpreter& run) const override;
  Expressions parts;
};

enum class Comparison { kEqual, kNotEqual, kLess, kLessEqual, kGreater, kGreaterEqual, kIn, kNotIn };

// a < b <= c: true if each comparison is.
struct CompareExpression : Expression {
  CompareExpression(int l, ExpressionPtr f) : Expression(l), first(std::move(f)) { grow(first); }
  Value evaluate(Interpreter& run) const override;
  ExpressionPtr first;
  std::vector<std::pair<Comparison, ExpressionPtr>> others;
};

// value if condition else otherwise
struct ConditionalExpression : Expression {
  using Expression::Expression;
  Value evaluate(Interpreter& run) const override;
  ExpressionPtr condition, value, otherwise;  // otherwise may be null
};

struct AttributeExpression : Expression {
  AttributeExpression(int l, ExpressionPtr o, std::string n)
      : Expression(l), object(std::move(o)), name(std::move(n)) {
    grow(object);
  }
  Value evaluate(Interpreter& run) const override;
  ExpressionPtr object;
  std::string name;
};

struct ItemExpression : Expression {
  ItemExpression(int l, ExpressionPtr o, ExpressionPtr k)
      : Expression(l), object(std::move(o)), key(std::move(k)) {
    grow(object);
    grow(key);
  }
  Value evaluate(Interpreter& run) const override;
  ExpressionPtr object, key;
};

struct SliceExpression : Expression {
  SliceExpression(int l, ExpressionPtr o) : Expression(l), object(std::move(o)) { grow(object); }
  Value evaluate(Interpreter& run) const override;
  ExpressionPtr object, start, stop, step;  // the last three may be null
};

struct CallArguments {
  Expressions positional;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
  ExpressionPtr spread, spread_named;  // *list, **dictionary; may be null

  void grow(Expression& owner) const {
    owner.grow(positional);
    for (const auto& [name, value] : named) owner.grow(value);
    owner.grow(spread);
    owner.grow(spread_named);
  }
};

struct CallExpression : Expression {
  using Expression::Expression;
  Value evaluate(Interpreter& run) const override;
  ExpressionPtr callee;
  CallArguments arguments;
};

// operand | name(arguments). In a filter statement the operand is null.
struct FilterExpression : Expression {
  using Expression::Expression;
  Value evaluate(Interpreter& run) const override;
  ExpressionPtr operand;
  std::string name;
  CallArguments arguments;
};

// operand is [not] name(arguments)
struct TestExpression : Expression {
  using Expression::Expression;
  Value evaluate(Interpreter& run) const override;
  ExpressionPtr operand;
  std::string name;
  CallArguments arguments;
  bool negated = false;
};

// ---- Statements

struct DataStatement : Statement {
  DataStatement(int l, std::string t) : Statement(l), text(std::move(t)) {}
  Flow execute(Interpreter& run) const override;
  std::string text;
};

struct OutputStatement : Statement {
  OutputStatement(int l, ExpressionPtr v) : Statement(l), value(std::move(v)) {}
  Flow execute(Interpreter& run) const override;
  ExpressionPtr value;
};

struct IfStatement : Statement {
  using Statement::Statement;
  Flow execute(Interpreter& run) const override;
  std::vector<std::pair<ExpressionPtr, Block>> branches;
  Block otherwise;
};

// The target of an assignment: a name, an attribute of a namespace, or several of these.
struct Target {
  std::string name, attribute;
  std::vector<Target> parts;
};

struct ForStatement : Statement {
  using Statement::Statement;
  Flow execute(Interpreter& run) const override;
  Target target;
  ExpressionPtr items, condition;  // condition may be null
  Block body, otherwise;
};

struct SetStatement : Statement {
  using Statement::Statement;
  Flow execute(Interpreter& run) const override;
  Target target;
  ExpressionPtr value;
};

// {% set name | filter %} ... {% endset %}
struct SetBlockStatement : Statement {
  using Statement::Statement;
  Flow execute(Interpreter& run) const override;
  Target target;
  std::vector<std::unique_ptr<FilterExpression>> filters;
  Block body;
};

// {% filter name %} ... {% endfilter %}
struct FilterStatement : Statement {
  using Statement::Statement;
  Flow execute(Interpreter& run) const override;
  std::vector<std::unique_ptr<FilterExpression>> filters;
  Block body;
};

struct WithStatement : Statement {
  using Statement::Statement;
  Flow execute(Interpreter& run) const override;
  std::vector<std::pair<Target, ExpressionPtr>> values;
  Block body;
};

struct MacroParameter {
  std::string name;
  ExpressionPtr fallback;  // may be null
};

struct MacroStatement : Statement {
  using Statement::Statement;
  Flow execute(Interpreter& run) const override;
  std::string name;
  std::vector<MacroParameter> parameters;
  Block body;
  // Whether the body uses caller, varargs, kwargs: a call may give them only then.
  bool uses_caller = false, uses_varargs = false, uses_kwargs = false;
};

// {% call(parameters) macro(arguments) %} body {% endcall %}: the macro's caller() writes the body.
struct CallStatement : Statement {
  using Statement::Statement;
  Flow execute(Interpreter& run) const override;
  std::unique_ptr<MacroStatement> caller;
  std::unique_ptr<CallExpression> call;
};

// {% generation %}: marks what the model writes; here it only runs its body in a scope of its own.
struct GenerationStatement : Statement {
  using Statement::Statement;
  Flow execute(Interpreter& run) const override;
  Block body;
};

struct JumpStatement : Statement {
  JumpStatement(int l, Flow f) : Statement(l), flow(f) {}
  Flow execute(Interpreter& run) const override;
  Flow flow;
};

}  // namespace sepllm::jinja
