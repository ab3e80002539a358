// Things that a template can call: its macros, methods of values, and the few global functions.
#pragma once

#include <string>

#include "text/template/value.h"

namespace sepllm::jinja {

class Scope;
struct MacroStatement;

struct Callable {
  enum class Kind { kMethod, kGlobal, kMacro };
  Kind kind;
  std::string name;
  Value self{};                           // the object whose method it is
  const MacroStatement* macro = nullptr;  // for kMacro, with the scope that it was defined in
  Scope* scope = nullptr;
};

// Depth of the values that a loop holds.
int loop_depth(const Loop& loop);

}  // namespace sepllm::jinja
