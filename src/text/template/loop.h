// The `loop` of a for statement: where it is among its items.
#pragma once

#include <deque>
#include <functional>
#include <optional>
#include <vector>

#include "text/template/value.h"

namespace sepllm::jinja {

// Takes its items as late as Jinja does: the condition of `for ... if` sees what the rounds before have
// changed.
class Loop {
 public:
  // `accepts`: that condition; empty where there is none.
  Loop(std::vector<Value> items, std::function<bool(const Value&)> accepts);

  // Goes to the next item; false: there is none.
  bool advance();
  const Value& current() const { return current_; }

  // loop.NAME: a value, or null where there is no such name. Only while the loop runs, those that look ahead.
  std::optional<Value> attribute(const std::string& name);
  // loop.changed(...): whether these values differ from those of the call before.
  bool changed(const std::vector<Value>& values, Budget& budget);
  int64_t index0() const { return index0_; }
  // The loop has ended: its condition can be asked no more.
  void end();
  int depth() const { return depth_; }

 private:
  std::optional<Value> fetch();
  bool peek();
  int64_t length();

  std::vector<Value> items_;
  std::function<bool(const Value&)> accepts_;
  size_t next_ = 0;          // of items_
  std::deque<Value> ahead_;  // taken already
  std::optional<Value> before_;
  Value current_;
  int64_t index0_ = -1;
  std::optional<std::vector<Value>> last_changed_;
  int depth_ = 1;
};

}  // namespace sepllm::jinja
