// Arithmetic as in Python, except that integers beyond 64 bits are an error.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "text/template/value.h"

namespace sepllm::jinja {

enum class Operator { kAdd, kSubtract, kMultiply, kDivide, kFloorDivide, kModulo, kPower };
const char* operator_sign(Operator op);

// Both operands are numbers (Value::is_number). Failure for a division by zero or an integer beyond 64 bits.
Value arithmetic(Operator op, const Value& a, const Value& b);
Value negated(const Value& number);
double as_double(const Value& number);
// The integer part of a float. Failure if it does not fit into 64 bits.
int64_t truncated(double value);

// int(text, base) and float(text) of Python; nullopt where Python would raise ValueError.
std::optional<int64_t> parse_int(std::string_view text, int64_t base);
std::optional<double> parse_float(std::string_view text);

}  // namespace sepllm::jinja
