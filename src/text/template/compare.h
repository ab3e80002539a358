// Truth, equality, order and membership of values, as in Python.
#pragma once

#include "text/template/value.h"

namespace sepllm::jinja {

bool is_true(const Value& value, Budget& budget);
bool equal(const Value& a, const Value& b, Budget& budget);
// < 0, 0, > 0. Failure for values that have no order among them.
int order(const Value& a, const Value& b, Budget& budget);
// `item` in `container`. Failure where it contains nothing.
bool contains(const Value& container, const Value& item, Budget& budget);

// The value under a key; null where there is none.
const Value* find_key(const Dict& dict, const Value& key, Budget& budget);
// Sets a key, in its old place where it is there already. Failure for a key that Python cannot hash.
void set_key(std::vector<std::pair<Value, Value>>& items, Value key, Value value, Budget& budget);

// Byte offset of `part` in `text` from `from` on, or npos. In linear time whatever the texts are.
size_t find_text(std::string_view text, std::string_view part, size_t from, Budget& budget);

}  // namespace sepllm::jinja
