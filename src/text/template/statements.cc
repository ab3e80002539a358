// Runs each kind of statement.
#include <cstddef>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "text/template/compare.h"
#include "text/template/interpreter.h"
#include "text/template/loop.h"

namespace sepllm::jinja {

Flow DataStatement::execute(Interpreter& run) const {
  run.write(text);
  return Flow::kNext;
}

Flow OutputStatement::execute(Interpreter& run) const {
  run.write(run.evaluate(*value));
  return Flow::kNext;
}

Flow IfStatement::execute(Interpreter& run) const {
  for (const auto& [condition, body] : branches) {
    if (is_true(run.evaluate(*condition), run.budget())) return run.execute(body);
  }
  return run.execute(otherwise);
}

Flow ForStatement::execute(Interpreter& run) const {
  std::vector<Value> values = run.items_of(run.evaluate(*items));
  std::function<bool(const Value&)> accepts;
  Scope* outside = &run.scope();
  if (condition != nullptr) {
    accepts = [&run, this, outside](const Value& value) {
      Interpreter::Inner inner(run, outside);
      run.assign(target, value);
      return is_true(run.evaluate(*condition), run.budget());
    };
  }
  const auto loop = std::make_shared<Loop>(std::move(values), std::move(accepts));
  const struct EndOfLoop {
    Loop& loop;
    ~EndOfLoop() { loop.end(); }
  } end{*loop};
  Interpreter::Inner inner(run);
  bool any_whole = false;  // as in Jinja, rounds that are left early do not count
  while (loop->advance()) {
    run.budget().step();
    inner.scope().clear();
    inner.scope().set("loop", Value(Value::Storage(loop)), run.budget());
    run.assign(target, loop->current());
    const Flow flow = run.execute(body);
    any_whole |= flow == Flow::kNext;
    if (flow == Flow::kBreak) break;
  }
  if (any_whole) return Flow::kNext;
  inner.scope().clear();
  return run.execute(otherwise);
}

Flow SetStatement::execute(Interpreter& run) const {
  run.assign(target, run.evaluate(*value));
  return Flow::kNext;
}

namespace {

Value filtered(Interpreter& run, const std::vector<std::unique_ptr<FilterExpression>>& filters,
               MarkedText text) {
  Value value = Value::text(std::move(text));
  for (const auto& filter : filters)
    value = run.filter(filter->name, value, run.arguments(filter->arguments));
  return value;
}

}  // namespace

Flow SetBlockStatement::execute(Interpreter& run) const {
  run.assign(target, filtered(run, filters, run.capture(body)));
  return Flow::kNext;
}

Flow FilterStatement::execute(Interpreter& run) const {
  run.write(filtered(run, filters, run.capture(body)));
  return Flow::kNext;
}

Flow WithStatement::execute(Interpreter& run) const {
  std::vector<Value> given;
  for (const auto& [name, value] : values) given.push_back(run.evaluate(*value));
  const Interpreter::Inner inner(run);
  for (size_t k = 0; k < given.size(); ++k) run.assign(values[k].first, given[k]);
  return run.execute(body);
}

namespace {

Value macro_value(Interpreter& run, const MacroStatement& macro) {
  run.scope().keep();
  run.budget().make(sizeof(Scope) + sizeof(Callable));
  return Value(Value::Storage(std::make_shared<const Callable>(
      Callable{Callable::Kind::kMacro, macro.name, Value(), &macro, &run.scope()})));
}

}  // namespace

Flow MacroStatement::execute(Interpreter& run) const {
  run.scope().set(name, macro_value(run, *this), run.budget());
  return Flow::kNext;
}

Flow CallStatement::execute(Interpreter& run) const {
  const Value function = run.evaluate(*call->callee);
  Arguments arguments = run.arguments(call->arguments);
  arguments.named.emplace_back("caller", macro_value(run, *caller));
  run.write(run.call(function, arguments));
  return Flow::kNext;
}

Flow GenerationStatement::execute(Interpreter& run) const {
  run.write(Value::text(run.capture(body)));
  return Flow::kNext;
}

Flow JumpStatement::execute(Interpreter&) const { return flow; }

}  // namespace sepllm::jinja
