// Writes values as Python does: str() and repr().
#pragma once

#include <string>

#include "text/template/value.h"

namespace sepllm::jinja {

// Appends str(value), which {{ value }} prints. Appends nothing for an undefined value. `numbers`: who counts
// as the author of a number's digits.
void append_str(MarkedText& out, const Value& value, Origin numbers, Budget& budget);
// Appends repr(value), the form of a value inside a printed list.
void append_repr(MarkedText& out, const Value& value, Origin numbers, Budget& budget);

std::string float_text(double value);  // repr of a float: "1.0", "1e-05", "inf"

}  // namespace sepllm::jinja
