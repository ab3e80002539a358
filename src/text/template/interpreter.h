// Runs the tree of a template: variables, calls and output.
#pragma once

#include <cstdint>
#include <ctime>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "text/template/arguments.h"
#include "text/template/ast.h"
#include "text/template/callable.h"
#include "text/template/limits.h"

namespace sepllm::jinja {

// Variables of a block with its own scope: the template, a loop, a macro.
class Scope {
 public:
  explicit Scope(Scope* parent) : parent_(parent) {}
  Scope* parent() const { return parent_; }
  const Value* find(const std::string& name, Budget& budget) const;
  void set(const std::string& name, Value value, Budget& budget);
  void clear() { variables_.clear(); }
  // A macro refers to this scope and those around it, so they must live on.
  void keep();
  bool is_kept() const { return kept_; }

 private:
  Scope* parent_;
  std::vector<std::pair<std::string, Value>> variables_;
  bool kept_ = false;
};

class Interpreter {
 public:
  using Variables = std::vector<std::pair<std::string, Value>>;
  // `clock`: the time that strftime_now tells.
  Interpreter(const Limits& limits, const Variables& variables, const std::tm& clock);
  MarkedText render(const Block& block);

  Budget& budget() { return budget_; }
  const std::tm& clock() const { return clock_; }
  // Who counts as the author of digits of numbers: the user, as soon as a text of the user has become a
  // number.
  Origin numbers() const { return numbers_; }
  void take_number_from(const MarkedText& text);

  // --- Running (interpreter.cc)
  Value evaluate(const Expression& expression);
  Flow execute(const Block& block);
  // The output of `block`, which runs in a scope of its own.
  MarkedText capture(const Block& block);
  void write(const Value& value);
  void write(const std::string& text);  // marked as the template's
  // While it lives, variables are set in a new scope within `parent`.
  class Inner;
  Scope& scope() { return *scope_; }
  Value lookup(const std::string& name);
  void assign(const Target& target, const Value& value);
  Namespace* new_namespace();

  // --- Calls (interpreter.cc, macros.cc, filters.cc, predicates.cc)
  Arguments arguments(const CallArguments& given);
  Value call(const Value& callee, const Arguments& arguments);
  Value call_macro(const Callable& macro, const Arguments& arguments);
  Value filter(const std::string& name, const Value& subject, const Arguments& arguments);
  bool test(const std::string& name, const Value& subject, const Arguments& arguments);

  // --- Values (access.cc)
  Value attribute(const Value& object, const std::string& name);  // object.name
  Value item(const Value& object, const Value& key);              // object[key]
  Value slice(const Value& object, const Value& start, const Value& stop, const Value& step);
  // The items that a loop over the value visits; takes the items of an iterator. Failure if it cannot be
  // iterated.
  std::vector<Value> items_of(const Value& value);
  // The number of its items or characters. Failure if it has none.
  int64_t length_of(const Value& value);
  Value str(const Value& value);  // a text is returned unchanged
  MarkedText str_text(const Value& value);
  Value char_list(const MarkedText& text);

 private:
  void check_output() const;

  Budget budget_;
  std::tm clock_;
  Origin numbers_ = Origin::kTemplate;
  std::vector<std::unique_ptr<Namespace>> namespaces_;
  std::vector<std::unique_ptr<Scope>> kept_;
  Scope root_;  // the variables that the caller gives
  Scope* scope_;
  MarkedText* out_ = nullptr;
};

class Interpreter::Inner {
 public:
  Inner(Interpreter& run, Scope* parent);
  explicit Inner(Interpreter& run) : Inner(run, run.scope_) {}
  ~Inner();
  Inner(const Inner&) = delete;
  Inner& operator=(const Inner&) = delete;
  Scope& scope() { return *scope_; }

 private:
  Interpreter& run_;
  Scope* outer_;
  std::unique_ptr<Scope> scope_;
};

// --- What values can do (methods_of_text.cc, methods.cc, globals.cc)

// Whether values of this type have a method of this name that templates may call.
bool has_method(const Value& value, const std::string& name);
// Methods that would change a list or dictionary, which templates must not do.
bool is_changing_method(const Value& value, const std::string& name);
Value call_method(Interpreter& run, const Callable& method, const Arguments& arguments);
bool is_text_method(const std::string& name);
Value call_text_method(Interpreter& run, const Text& self, const std::string& name,
                       const Arguments& arguments);
bool is_global(const std::string& name);
Value call_global(Interpreter& run, const std::string& name, const Arguments& arguments);

// --- Operators (operators.cc)
Value binary(Interpreter& run, Operator op, const Value& a, const Value& b);
// text % values
Value percent_format(Interpreter& run, const Text& format, const Value& values);
// text.format(...)
Value brace_format(Interpreter& run, const Text& format, const Arguments& arguments);
MarkedText html_escaped(Interpreter& run, const MarkedText& text);

}  // namespace sepllm::jinja
