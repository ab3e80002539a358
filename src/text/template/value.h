// The values of templates, after Python's: what a variable can hold. Immutable but for namespaces, as in the
// sandbox that transformers runs templates in; so that values cannot contain themselves.
#pragma once

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
  bool is_markup = false;  // by the filters safe and escape: what is added to it is escaped
};

// Lists, tuples, ranges and the views of a dictionary.
struct List {
  enum class Kind { kList, kTuple, kRange, kView };
  std::vector<Value> items;
  Kind kind = Kind::kList;
  const char* view_name = "";  // "dict_items"
  int depth = 1;               // of lists and dictionaries within each other
};

// In the order of insertion.
struct Dict {
  std::vector<std::pair<Value, Value>> items;
  int depth = 1;
};

// What a filter such as map yields: can be walked once only.
struct Iterator {
  std::vector<Value> items;
  size_t next = 0;
  int depth = 1;
};

// namespace(): the only thing that a template can change. Lives as long as the rendering.
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
  // Failure (kOutOfRange) where lists and dictionaries are nested deeper than the budget allows; charges it.
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
  // Null where the value is of another type.
  const Text* as_text() const;
  const List* as_list() const;
  const Dict* as_dict() const;
  Iterator* as_iterator() const;
  Namespace* as_namespace() const;
  Loop* as_loop() const;
  const Callable* as_callable() const;
  // A bool or an integer, as Python counts them.
  const int64_t* as_integer(int64_t& buffer) const;

  // "str", "dict", ...: what Python calls the type.
  const char* type_name() const;
  int depth() const;

 private:
  Storage storage_;
};

// For what an undefined value cannot do, and what it is that is undefined.
[[noreturn]] void fail_undefined(const Value& value);

}  // namespace sepllm::jinja
