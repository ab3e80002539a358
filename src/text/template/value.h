// The values of templates, which follow Python's. All but namespaces are immutable, as in the sandbox in
// which transformers runs templates, so values cannot contain themselves.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "text/template/limits.h"
#include "text/template/marked_text.h"

namespace sepllm::jinja {

class Value;
class Loop;
struct Callable;

struct Undefined {
  std::shared_ptr<const std::string> why;  // "'x' is undefined"
};
struct None {
  bool operator==(const None&) const = default;
};

struct Text {
  MarkedText text;
  bool is_markup = false;  // made by the filters safe and escape: text that is added to it is escaped
};

// Lists, tuples, ranges and the views of a dictionary.
struct List {
  enum class Kind { kList, kTuple, kRange, kView };
  std::vector<Value> items;
  Kind kind = Kind::kList;
  const char* view_name = "";  // "dict_items"
  int depth = 1;               // nesting depth of lists and dictionaries
};

// Items are in the order of insertion.
struct Dict {
  std::vector<std::pair<Value, Value>> items;
  int depth = 1;
};

// The result of a filter such as map; it can be iterated only once.
struct Iterator {
  std::vector<Value> items;
  size_t next = 0;
  int depth = 1;
};

// namespace(): the only thing that a template can change. It lives as long as the rendering.
struct Namespace {
  std::vector<std::pair<std::string, Value>> attributes;
};

class Value {
 public:
  using Storage =
      std::variant<Undefined, None, bool, int64_t, double, std::shared_ptr<const Text>,
                   std::shared_ptr<const List>, std::shared_ptr<const Dict>, std::shared_ptr<Iterator>,
                   Namespace*, std::shared_ptr<Loop>, std::shared_ptr<const Callable>>;

  Value() : storage_(None{}) {}
  explicit Value(Storage storage) : storage_(std::move(storage)) {}
  static Value undefined(std::string why);
  static Value boolean(bool value) { return Value(Storage(value)); }
  static Value integer(int64_t value) { return Value(Storage(value)); }
  static Value real(double value) { return Value(Storage(value)); }
  static Value text(MarkedText text, bool is_markup = false);
  static Value text(std::string bytes, Origin origin);
  // Failure (kOutOfRange) if lists and dictionaries are nested deeper than the budget allows. Charges the
  // budget.
  static Value list(std::vector<Value> items, Budget& budget, List::Kind kind = List::Kind::kList);
  static Value view(std::vector<Value> items, Budget& budget, const char* name);
  static Value dict(std::vector<std::pair<Value, Value>> items, Budget& budget);
  static Value iterator(std::vector<Value> items, Budget& budget);

  template <typename T>
  const T* get() const {
    return std::get_if<T>(&storage_);
  }
  bool is_undefined() const { return get<Undefined>() != nullptr; }
  bool is_none() const { return get<None>() != nullptr; }
  bool is_number() const { return get<bool>() || get<int64_t>() || get<double>(); }
  // Null if the value has another type.
  const Text* as_text() const;
  const List* as_list() const;
  const Dict* as_dict() const;
  Iterator* as_iterator() const;
  Namespace* as_namespace() const;
  Loop* as_loop() const;
  const Callable* as_callable() const;
  // A bool or an integer, because bools are integers in Python.
  const int64_t* as_integer(int64_t& buffer) const;

  // Python's name of the type: "str", "dict", ...
  const char* type_name() const;
  int depth() const;

 private:
  Storage storage_;
};

// Fails for an operation that an undefined value does not have; the message says what is undefined.
[[noreturn]] void fail_undefined(const Value& value);

}  // namespace sepllm::jinja
