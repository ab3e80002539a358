// Arithmetic as in Python, but for integers beyond 64 bits, which are an error.
#pragma once

#include <optional>

#include "text/template/value.h"

namespace sepllm::jinja {

enum class Operator { kAdd, kSubtract, kMultiply, kDivide, kFloorDivide, kModulo, kPower };
const char* operator_sign(Operator op);

// Both operands are numbers (Value::is_number). Failure for a division by zero or an integer beyond 64 bits.
Value arithmetic(Operator op, const Value& a, const Value& b);
Value negated(const Value& number);
double as_double(const Value& number);
// The integer that a float has before its point. Failure where it has none of 64 bits.
int64_t truncated(double value);

// int(text, base) and float(text) of Python; nullopt where they would raise ValueError.
std::optional<int64_t> parse_int(std::string_view text, int64_t base);
std::optional<double> parse_float(std::string_view text);

}  // namespace sepllm::jinja
