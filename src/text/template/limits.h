// Limits on what a template may cost. It may come with a model from anywhere, and must neither run for ever
// nor fill the memory. Everything that takes time or memory is charged here; exceeding a limit ends the
// rendering.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "base/error.h"

namespace sepllm::jinja {

// Why a template cannot be compiled or rendered. It is used only inside this folder: at the edge it becomes
// an Error with the template's file, the line and a hint. If it is thrown without a line, it gets the line of
// the innermost expression or statement that was being evaluated.
struct Failure {
  ErrorCode code;
  std::string message;
  int line = 0;
};

[[noreturn]] inline void fail(std::string message) {
  throw Failure{ErrorCode::kInvalidArgument, std::move(message)};
}
[[noreturn]] inline void fail_unsupported(std::string message) {
  throw Failure{ErrorCode::kUnsupported, std::move(message)};
}

struct Limits {
  int64_t steps = 2'000'000;  // expressions, statements, rounds of loops, items, and each 64 bytes looked at
  int64_t bytes = int64_t{128} << 20;  // total bytes of text and lists made
  int64_t output = int64_t{32} << 20;  // bytes of the prompt
  int depth = 600;                     // nesting of expressions, statements and macros while they run
  int nesting = 200;                   // the same in the source: the height of the tree
  int value_depth = 100;               // nesting of lists and dictionaries
  int64_t source_bytes = int64_t{1} << 20;
};

class Budget {
 public:
  explicit Budget(const Limits& limits) : limits_(limits) {}

  const Limits& limits() const { return limits_; }
  void step(int64_t n = 1) {
    if ((steps_ += n) > limits_.steps) refuse("more than", limits_.steps, "steps");
  }
  // Charges for looking at this many bytes of text.
  void read(size_t bytes) { step(static_cast<int64_t>(bytes / 64)); }
  // Charges for making this many bytes of text or of a list; call it before they are made.
  void make(size_t bytes) {
    if ((bytes_ += static_cast<int64_t>(bytes)) > limits_.bytes) refuse("more than", limits_.bytes, "bytes");
    step(static_cast<int64_t>(bytes / 256));
  }
  void enter() {
    if (++depth_ > limits_.depth) refuse("more than", limits_.depth, "levels of nesting");
  }
  void leave() { --depth_; }

 private:
  [[noreturn]] static void refuse(const char* what, int64_t limit, const char* unit) {
    throw Failure{ErrorCode::kOutOfRange,
                  "the template takes " + std::string(what) + " " + std::to_string(limit) + " " + unit};
  }

  Limits limits_;
  int64_t steps_ = 0, bytes_ = 0;
  int depth_ = 0;
};

// One level of nesting, for as long as it lives.
class Level {
 public:
  explicit Level(Budget& budget) : budget_(budget) { budget_.enter(); }
  ~Level() { budget_.leave(); }
  Level(const Level&) = delete;
  Level& operator=(const Level&) = delete;

 private:
  Budget& budget_;
};

}  // namespace sepllm::jinja
