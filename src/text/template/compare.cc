#include "text/template/compare.h"

#include <string.h>  // memmem

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/template/loop.h"

namespace sepllm::jinja {
namespace {

// Exact for every int64 and double: the type has 64 bits of mantissa.
using Wide = long double;

Wide wide(const Value& number) {
  int64_t buffer;
  if (const int64_t* integer = number.as_integer(buffer)) return static_cast<Wide>(*integer);
  return static_cast<Wide>(*number.get<double>());
}

bool equal_lists(const List& a, const List& b, Budget& budget) {
  if (a.kind != b.kind || a.items.size() != b.items.size()) return false;
  for (size_t k = 0; k < a.items.size(); ++k) {
    if (!equal(a.items[k], b.items[k], budget)) return false;
  }
  return true;
}

bool equal_dicts(const Dict& a, const Dict& b, Budget& budget) {
  if (a.items.size() != b.items.size()) return false;
  for (const auto& [key, value] : a.items) {
    const Value* other = find_key(b, key, budget);
    if (other == nullptr || !equal(value, *other, budget)) return false;
  }
  return true;
}

[[noreturn]] void fail_order(const Value& a, const Value& b) {
  fail("values of type " + std::string(a.type_name()) + " and " + b.type_name() + " have no order");
}

int order_lists(const List& a, const List& b, Budget& budget) {
  const size_t n = std::min(a.items.size(), b.items.size());
  for (size_t k = 0; k < n; ++k) {
    if (!equal(a.items[k], b.items[k], budget)) return order(a.items[k], b.items[k], budget);
  }
  return a.items.size() < b.items.size() ? -1 : a.items.size() > b.items.size() ? 1 : 0;
}

bool contains_item(const std::vector<Value>& items, const Value& item, Budget& budget) {
  for (const Value& other : items) {
    if (equal(other, item, budget)) return true;
  }
  return false;
}

}  // namespace

bool is_true(const Value& value, Budget& budget) {
  budget.step();
  if (const bool* b = value.get<bool>()) return *b;
  if (const int64_t* i = value.get<int64_t>()) return *i != 0;
  if (const double* d = value.get<double>()) return *d != 0.0;
  if (const Text* text = value.as_text()) return !text->text.empty();
  if (const List* list = value.as_list()) return !list->items.empty();
  if (const Dict* dict = value.as_dict()) return !dict->items.empty();
  return !value.is_none() && !value.is_undefined();
}

bool equal(const Value& a, const Value& b, Budget& budget) {
  budget.step();
  if (a.is_number() && b.is_number()) return wide(a) == wide(b);
  if (const Text* x = a.as_text(), *y = b.as_text(); x != nullptr && y != nullptr) {
    budget.read(std::min(x->text.size(), y->text.size()));
    return x->text.bytes() == y->text.bytes();
  }
  if (const List* x = a.as_list(), *y = b.as_list(); x != nullptr && y != nullptr) {
    return x == y || equal_lists(*x, *y, budget);
  }
  if (const Dict* x = a.as_dict(), *y = b.as_dict(); x != nullptr && y != nullptr) {
    return x == y || equal_dicts(*x, *y, budget);
  }
  if (a.is_undefined() || b.is_undefined()) return a.is_undefined() && b.is_undefined();
  if (a.is_none() || b.is_none()) return a.is_none() && b.is_none();
  if (a.as_namespace() != nullptr) return a.as_namespace() == b.as_namespace();
  if (a.as_loop() != nullptr) return a.as_loop() == b.as_loop();
  if (a.as_iterator() != nullptr) return a.as_iterator() == b.as_iterator();
  if (a.as_callable() != nullptr) return a.as_callable() == b.as_callable();
  return false;
}

int order(const Value& a, const Value& b, Budget& budget) {
  budget.step();
  if (a.is_undefined()) fail_undefined(a);
  if (b.is_undefined()) fail_undefined(b);
  if (a.is_number() && b.is_number()) {
    const Wide x = wide(a), y = wide(b);
    return x < y ? -1 : x > y ? 1 : 0;
  }
  if (const Text* x = a.as_text(), *y = b.as_text(); x != nullptr && y != nullptr) {
    budget.read(std::min(x->text.size(), y->text.size()));
    return x->text.bytes().compare(y->text.bytes());  // UTF-8 keeps the order of code points
  }
  if (const List* x = a.as_list(), *y = b.as_list(); x != nullptr && y != nullptr && x->kind == y->kind) {
    if (x->kind == List::Kind::kList || x->kind == List::Kind::kTuple) return order_lists(*x, *y, budget);
  }
  fail_order(a, b);
}

bool contains(const Value& container, const Value& item, Budget& budget) {
  if (const Text* text = container.as_text()) {
    const Text* part = item.as_text();
    if (part == nullptr) fail("'in <string>' requires a string, not " + std::string(item.type_name()));
    return find_text(text->text.bytes(), part->text.bytes(), 0, budget) != std::string::npos;
  }
  if (const List* list = container.as_list()) return contains_item(list->items, item, budget);
  if (const Dict* dict = container.as_dict()) return find_key(*dict, item, budget) != nullptr;
  if (container.is_undefined()) return false;
  if (Iterator* iterator = container.as_iterator()) {
    while (iterator->next < iterator->items.size()) {
      if (equal(iterator->items[iterator->next++], item, budget)) return true;
    }
    return false;
  }
  fail("a value of type " + std::string(container.type_name()) + " contains nothing");
}

const Value* find_key(const Dict& dict, const Value& key, Budget& budget) {
  for (const auto& [own, value] : dict.items) {
    if (equal(own, key, budget)) return &value;
  }
  return nullptr;
}

void set_key(std::vector<std::pair<Value, Value>>& items, Value key, Value value, Budget& budget) {
  const List* list = key.as_list();
  const bool hashable = key.as_dict() == nullptr && (list == nullptr || list->kind != List::Kind::kList);
  if (!hashable) fail("a " + std::string(key.type_name()) + " cannot be a key");
  for (auto& [own, old] : items) {
    if (!equal(own, key, budget)) continue;
    old = std::move(value);
    return;
  }
  items.emplace_back(std::move(key), std::move(value));
}

size_t find_text(std::string_view text, std::string_view part, size_t from, Budget& budget) {
  if (from > text.size()) return std::string::npos;
  budget.read(kSearchCost * (text.size() - from + part.size()));
  if (part.empty()) return from;
  const void* hit = memmem(text.data() + from, text.size() - from, part.data(), part.size());
  if (hit == nullptr) return std::string::npos;
  return static_cast<size_t>(static_cast<const char*>(hit) - text.data());
}

}  // namespace sepllm::jinja
