#include "text/template/interpreter.h"

#include <cstdint>
#include <ctime>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "text/template/compare.h"
#include "text/template/loop.h"
#include "text/template/python_form.h"

namespace sepllm::jinja {

// ---- Scopes

const Value* Scope::find(const std::string& name, Budget& budget) const {
  budget.step(1 + static_cast<int64_t>(variables_.size() / 8));
  for (const auto& [own, value] : variables_) {
    if (own == name) return &value;
  }
  return nullptr;
}

void Scope::set(const std::string& name, Value value, Budget& budget) {
  budget.step(1 + static_cast<int64_t>(variables_.size() / 8));
  for (auto& [own, old] : variables_) {
    if (own != name) continue;
    old = std::move(value);
    return;
  }
  variables_.emplace_back(name, std::move(value));
}

void Scope::keep() {
  for (Scope* scope = this; scope != nullptr && !scope->kept_; scope = scope->parent_) scope->kept_ = true;
}

Interpreter::Inner::Inner(Interpreter& run, Scope* parent)
    : run_(run), outer_(run.scope_), scope_(std::make_unique<Scope>(parent)) {
  run.scope_ = scope_.get();
}

Interpreter::Inner::~Inner() {
  run_.scope_ = outer_;
  if (scope_->is_kept()) run_.kept_.push_back(std::move(scope_));
}

// ---- Running

Interpreter::Interpreter(const Limits& limits, const Variables& variables, const std::tm& clock)
    : budget_(limits), clock_(clock), root_(nullptr), scope_(&root_) {
  for (const auto& [name, value] : variables) root_.set(name, value, budget_);
}

MarkedText Interpreter::render(const Block& block) {
  MarkedText out;
  out_ = &out;
  const Inner inner(*this);
  execute(block);
  return out;
}

Value Interpreter::evaluate(const Expression& expression) {
  const Level level(budget_);
  budget_.step();
  try {
    return expression.evaluate(*this);
  } catch (Failure& failure) {
    if (failure.line == 0) failure.line = expression.line;
    throw;
  }
}

Flow Interpreter::execute(const Block& block) {
  const Level level(budget_);
  for (const auto& statement : block) {
    budget_.step();
    try {
      const Flow flow = statement->execute(*this);
      if (flow != Flow::kNext) return flow;
    } catch (Failure& failure) {
      if (failure.line == 0) failure.line = statement->line;
      throw;
    }
  }
  return Flow::kNext;
}

MarkedText Interpreter::capture(const Block& block) {
  MarkedText text;
  MarkedText* outer = std::exchange(out_, &text);
  const Inner inner(*this);
  execute(block);  // if it fails, nothing more is written
  out_ = outer;
  return text;
}

void Interpreter::check_output() const {
  if (static_cast<int64_t>(out_->size()) <= budget_.limits().output) return;
  throw Failure{ErrorCode::kOutOfRange,
                "the template writes more than " + std::to_string(budget_.limits().output) + " bytes"};
}

void Interpreter::write(const Value& value) {
  append_str(*out_, value, numbers_, budget_);
  check_output();
}

void Interpreter::write(const std::string& text) {
  budget_.make(text.size());
  out_->append(text, Origin::kTemplate);
  check_output();
}

void Interpreter::take_number_from(const MarkedText& text) {
  if (text.has_user_bytes()) numbers_ = Origin::kUser;
}

Value Interpreter::lookup(const std::string& name) {
  for (const Scope* scope = scope_; scope != nullptr; scope = scope->parent()) {
    if (const Value* value = scope->find(name, budget_)) return *value;
  }
  if (is_global(name)) {
    return Value(Value::Storage(std::make_shared<const Callable>(Callable{Callable::Kind::kGlobal, name})));
  }
  return Value::undefined("'" + name + "' is undefined");
}

void Interpreter::assign(const Target& target, const Value& value) {
  if (target.parts.empty() && target.attribute.empty()) return scope_->set(target.name, value, budget_);
  if (!target.parts.empty()) {
    const std::vector<Value> items = items_of(value);
    if (items.size() != target.parts.size()) {
      fail("cannot unpack " + std::to_string(items.size()) + " values into " +
           std::to_string(target.parts.size()) + " variables");
    }
    for (size_t k = 0; k < items.size(); ++k) assign(target.parts[k], items[k]);
    return;
  }
  Namespace* space = lookup(target.name).as_namespace();
  if (space == nullptr) fail("cannot assign an attribute of '" + target.name + "': it is no namespace");
  if (target.attribute.starts_with('_')) fail("an attribute of a namespace cannot begin with '_'");
  budget_.step(static_cast<int64_t>(space->attributes.size() / 8));
  for (auto& [name, old] : space->attributes) {
    if (name != target.attribute) continue;
    old = value;
    return;
  }
  space->attributes.emplace_back(target.attribute, value);
}

Namespace* Interpreter::new_namespace() {
  budget_.make(sizeof(Namespace));
  namespaces_.push_back(std::make_unique<Namespace>());
  return namespaces_.back().get();
}

// ---- Calls

Arguments Interpreter::arguments(const CallArguments& given) {
  Arguments out;
  for (const ExpressionPtr& argument : given.positional) out.positional.push_back(evaluate(*argument));
  for (const auto& [name, argument] : given.named) out.named.emplace_back(name, evaluate(*argument));
  if (given.spread) {
    for (Value& value : items_of(evaluate(*given.spread))) out.positional.push_back(std::move(value));
  }
  if (given.spread_named) {
    const Value spread = evaluate(*given.spread_named);
    if (spread.as_dict() == nullptr) fail("only a dictionary can be spread by '**'");
    for (const auto& [key, value] : spread.as_dict()->items) {
      if (key.as_text() == nullptr) fail("names of arguments must be strings");
      out.named.emplace_back(key.as_text()->text.bytes(), value);
    }
  }
  for (size_t k = 0; k < out.named.size(); ++k) {
    for (size_t j = 0; j < k; ++j) {
      budget_.step();
      if (out.named[j].first == out.named[k].first)
        fail("argument '" + out.named[k].first + "' is given twice");
    }
  }
  return out;
}

Value Interpreter::call(const Value& callee, const Arguments& arguments) {
  if (callee.is_undefined()) fail_undefined(callee);
  const Callable* callable = callee.as_callable();
  if (callable == nullptr) fail("a value of type " + std::string(callee.type_name()) + " cannot be called");
  switch (callable->kind) {
    case Callable::Kind::kMethod:
      return call_method(*this, *callable, arguments);
    case Callable::Kind::kGlobal:
      return call_global(*this, callable->name, arguments);
    case Callable::Kind::kMacro:
      return call_macro(*callable, arguments);
  }
  fail("a value that cannot be called");
}

namespace {

// Collects the arguments that no parameter took, for a body that uses them.
void bind_extras(Interpreter& run, Scope& scope, const MacroStatement& macro, std::vector<Value> positional,
                 std::vector<std::pair<Value, Value>> named) {
  if (macro.uses_varargs) {
    scope.set("varargs", Value::list(std::move(positional), run.budget(), List::Kind::kTuple), run.budget());
  } else if (!positional.empty()) {
    fail("macro '" + macro.name + "' takes not more than " + std::to_string(macro.parameters.size()) +
         " arguments");
  }
  if (macro.uses_kwargs) {
    scope.set("kwargs", Value::dict(std::move(named), run.budget()), run.budget());
  } else if (!named.empty()) {
    fail("macro '" + macro.name + "' has no parameter '" + named[0].first.as_text()->text.bytes() + "'");
  }
}

}  // namespace

Value Interpreter::call_macro(const Callable& callable, const Arguments& arguments) {
  const MacroStatement& macro = *callable.macro;
  MarkedText text;
  MarkedText* outer = std::exchange(out_, &text);
  Inner inner(*this, callable.scope);
  std::vector<bool> given(macro.parameters.size(), false);
  for (size_t k = 0; k < macro.parameters.size() && k < arguments.positional.size(); ++k) {
    inner.scope().set(macro.parameters[k].name, arguments.positional[k], budget_);
    given[k] = true;
  }
  std::vector<std::pair<Value, Value>> extra_named;
  Value caller = Value::undefined("no caller is defined");
  for (const auto& [name, value] : arguments.named) {
    bool taken = macro.uses_caller && name == "caller";
    if (taken) caller = value;
    for (size_t k = 0; k < macro.parameters.size(); ++k) {
      if (macro.parameters[k].name != name) continue;
      if (given[k]) fail("macro '" + macro.name + "': parameter '" + name + "' is given twice");
      inner.scope().set(name, value, budget_);
      taken = given[k] = true;
    }
    if (!taken) extra_named.emplace_back(Value::text(name, Origin::kTemplate), value);
  }
  if (macro.uses_caller) inner.scope().set("caller", caller, budget_);
  std::vector<Value> extra;
  for (size_t k = macro.parameters.size(); k < arguments.positional.size(); ++k) {
    extra.push_back(arguments.positional[k]);
  }
  bind_extras(*this, inner.scope(), macro, std::move(extra), std::move(extra_named));
  for (size_t k = 0; k < given.size(); ++k) {
    if (given[k]) continue;
    const MacroParameter& parameter = macro.parameters[k];
    inner.scope().set(parameter.name,
                      parameter.fallback
                          ? evaluate(*parameter.fallback)
                          : Value::undefined("parameter '" + parameter.name + "' was not provided"),
                      budget_);
  }
  execute(macro.body);
  out_ = outer;
  return Value::text(std::move(text));
}

}  // namespace sepllm::jinja
