#include "text/template/loop.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "text/template/callable.h"
#include "text/template/compare.h"

namespace sepllm::jinja {

int loop_depth(const Loop& loop) { return loop.depth(); }

Loop::Loop(std::vector<Value> items, std::function<bool(const Value&)> accepts)
    : items_(std::move(items)), accepts_(std::move(accepts)) {
  for (const Value& item : items_) depth_ = std::max(depth_, item.depth() + 1);
}

std::optional<Value> Loop::fetch() {
  while (next_ < items_.size()) {
    const Value& item = items_[next_++];
    if (!accepts_ || accepts_(item)) return item;
  }
  return std::nullopt;
}

bool Loop::advance() {
  if (!peek()) return false;
  if (index0_ >= 0) before_ = std::move(current_);
  current_ = std::move(ahead_.front());
  ahead_.pop_front();
  ++index0_;
  return true;
}

bool Loop::peek() {
  if (ahead_.empty()) {
    if (std::optional<Value> item = fetch()) ahead_.push_back(std::move(*item));
  }
  return !ahead_.empty();
}

int64_t Loop::length() {
  while (std::optional<Value> item = fetch()) ahead_.push_back(std::move(*item));
  return index0_ + 1 + static_cast<int64_t>(ahead_.size());
}

std::optional<Value> Loop::attribute(const std::string& name) {
  if (name == "index") return Value::integer(index0_ + 1);
  if (name == "index0") return Value::integer(index0_);
  if (name == "first") return Value::boolean(index0_ == 0);
  if (name == "last") return Value::boolean(!peek());
  if (name == "length") return Value::integer(length());
  if (name == "revindex") return Value::integer(length() - index0_);
  if (name == "revindex0") return Value::integer(length() - index0_ - 1);
  if (name == "depth") return Value::integer(1);
  if (name == "depth0") return Value::integer(0);
  if (name == "previtem") return before_ ? *before_ : Value::undefined("there is no previous item");
  if (name == "nextitem") return peek() ? ahead_.front() : Value::undefined("there is no next item");
  return std::nullopt;
}

bool Loop::changed(const std::vector<Value>& values, Budget& budget) {
  bool same = last_changed_ && last_changed_->size() == values.size();
  for (size_t k = 0; same && k < values.size(); ++k) same = equal((*last_changed_)[k], values[k], budget);
  if (!same) last_changed_ = values;
  return !same;
}

void Loop::end() {
  next_ = items_.size();
  accepts_ = nullptr;
}

}  // namespace sepllm::jinja
