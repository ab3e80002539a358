// The `loop` variable of a for statement: where it is among its items.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "text/template/value.h"

namespace sepllm::jinja {

// Takes its items as late as Jinja does: the condition of `for ... if` sees the changes of earlier rounds.
class Loop {
 public:
  // `accepts`: that condition; empty if there is none.
  Loop(std::vector<Value> items, std::function<bool(const Value&)> accepts);

  // Moves to the next item; false if there is none.
  bool advance();
  const Value& current() const { return current_; }

  // loop.NAME: a value, or null if there is no such name. Attributes that look ahead work only while the loop
  // runs.
  std::optional<Value> attribute(const std::string& name);
  // loop.changed(...): whether these values differ from those of the previous call.
  bool changed(const std::vector<Value>& values, Budget& budget);
  int64_t index0() const { return index0_; }
  // Called when the loop has ended: its condition must not be evaluated any more.
  void end();
  int depth() const { return depth_; }

 private:
  std::optional<Value> fetch();
  bool peek();
  int64_t length();

  std::vector<Value> items_;
  std::function<bool(const Value&)> accepts_;
  size_t next_ = 0;          // index into items_
  std::deque<Value> ahead_;  // items that were taken ahead of time
  std::optional<Value> before_;
  Value current_;
  int64_t index0_ = -1;
  std::optional<std::vector<Value>> last_changed_;
  int depth_ = 1;
};

}  // namespace sepllm::jinja
