// Truth, equality, order and membership of values, as in Python.
#pragma once

#include <cstddef>
#include <string_view>
#include <utility>
#include <vector>

#include "text/template/value.h"

namespace sepllm::jinja {

bool is_true(const Value& value, Budget& budget);
bool equal(const Value& a, const Value& b, Budget& budget);
// < 0, 0, > 0. Failure for values that have no order.
int order(const Value& a, const Value& b, Budget& budget);
// `item` in `container`. Failure if `container` is not one.
bool contains(const Value& container, const Value& item, Budget& budget);

// The value under a key; null if there is none.
const Value* find_key(const Dict& dict, const Value& key, Budget& budget);
// Sets a key; a key that exists already keeps its place. Failure for a key that Python cannot hash.
void set_key(std::vector<std::pair<Value, Value>>& items, Value key, Value value, Budget& budget);

// How many bytes are charged for each one that a search looks at: it can take a nanosecond for each.
inline constexpr size_t kSearchCost = 4;

// Byte offset of `part` in `text` from `from` on, or npos. Takes linear time for all texts.
size_t find_text(std::string_view text, std::string_view part, size_t from, Budget& budget);

}  // namespace sepllm::jinja
