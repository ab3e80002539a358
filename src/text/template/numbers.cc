#include "text/template/numbers.h"

#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "text/template/characters.h"

namespace sepllm::jinja {
namespace {

constexpr const char* kTooLarge = "an integer beyond 64 bits";

int64_t floor_divide(int64_t a, int64_t b) {
  if (b == 0) fail("division by zero");
  if (b == -1) {
    if (a == std::numeric_limits<int64_t>::min()) fail(kTooLarge);
    return -a;
  }
  return a / b - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0);
}

int64_t modulo(int64_t a, int64_t b) {
  if (b == 0) fail("division by zero");
  if (b == -1) return 0;
  const int64_t rest = a % b;
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

int64_t power(int64_t base, int64_t exponent) {
  int64_t out = 1;
  for (bool overflow = false; exponent > 0; exponent /= 2) {
    if (exponent % 2 == 1) overflow = __builtin_mul_overflow(out, base, &out);
    if (exponent > 1) overflow = __builtin_mul_overflow(base, base, &base) || overflow;
    if (overflow) fail(kTooLarge);
  }
  return out;
}

Value integer_arithmetic(Operator op, int64_t a, int64_t b) {
  int64_t out = 0;
  bool overflow = false;
  switch (op) {
    case Operator::kAdd:
      overflow = __builtin_add_overflow(a, b, &out);
      break;
    case Operator::kSubtract:
      overflow = __builtin_sub_overflow(a, b, &out);
      break;
    case Operator::kMultiply:
      overflow = __builtin_mul_overflow(a, b, &out);
      break;
    case Operator::kDivide:
      if (b == 0) fail("division by zero");
      // Correctly rounded, as in Python: the quotient of the wide numbers is within half a unit of its last
      // digit.
      return Value::real(static_cast<double>(static_cast<long double>(a) / static_cast<long double>(b)));
    case Operator::kFloorDivide:
      out = floor_divide(a, b);
      break;
    case Operator::kModulo:
      out = modulo(a, b);
      break;
    case Operator::kPower:
      if (b < 0) {
        if (a == 0) fail("zero to a negative power");
        return Value::real(std::pow(static_cast<double>(a), static_cast<double>(b)));
      }
      out = power(a, b);
      break;
  }
  if (overflow) fail(kTooLarge);
  return Value::integer(out);
}

double float_modulo(double a, double b) {
  double rest = std::fmod(a, b);
  if (rest != 0.0) return (rest < 0) != (b < 0) ? rest + b : rest;
  return std::copysign(0.0, b);
}

double float_floor_divide(double a, double b) {
  const double quotient = (a - float_modulo(a, b)) / b;
  if (quotient == 0.0) return std::copysign(0.0, a / b);
  const double whole = std::floor(quotient);
  return quotient - whole > 0.5 ? whole + 1.0 : whole;
}

double float_power(double a, double b) {
  if (a == 0.0 && b < 0) fail("zero to a negative power");
  if (a < 0 && std::floor(b) != b && std::isfinite(b)) fail_unsupported("complex numbers are not supported");
  const double out = std::pow(a, b);
  if (std::isinf(out) && std::isfinite(a) && std::isfinite(b)) fail("a float that is too large");
  return out;
}

std::string without_underscores(std::string_view text, bool& valid) {
  std::string out;
  for (size_t k = 0; k < text.size(); ++k) {
    if (text[k] != '_') {
      out += text[k];
      continue;
    }
    const auto is_alnum = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; };
    valid = valid && k > 0 && k + 1 < text.size() && is_alnum(text[k - 1]) && is_alnum(text[k + 1]);
  }
  return out;
}

// Removes white space and the sign.
std::string_view number_body(std::string_view text, bool& negative) {
  Budget budget{Limits{}};
  if (text.size() > 1000) return "";
  const Stripped inner = strip(text, Sides::kBoth, budget);
  text = text.substr(inner.begin, inner.end - inner.begin);
  negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  for (size_t at = 0, length = 0; at < text.size(); at += length) {
    const char32_t c = code_point_at(text, at, length);
    if (c > 0x7F && is_decimal(c)) fail_unsupported("numbers in digits of other scripts are not supported");
  }
  return text;
}

}  // namespace

const char* operator_sign(Operator op) {
  constexpr const char* kSigns[] = {"+", "-", "*", "/", "//", "%", "**"};
  return kSigns[static_cast<size_t>(op)];
}

double as_double(const Value& number) {
  int64_t buffer;
  if (const int64_t* integer = number.as_integer(buffer)) return static_cast<double>(*integer);
  return *number.get<double>();
}

Value arithmetic(Operator op, const Value& a, const Value& b) {
  int64_t buffer_a, buffer_b;
  const int64_t *x = a.as_integer(buffer_a), *y = b.as_integer(buffer_b);
  if (x != nullptr && y != nullptr) return integer_arithmetic(op, *x, *y);
  const double u = as_double(a), v = as_double(b);
  const bool divides = op == Operator::kDivide || op == Operator::kFloorDivide || op == Operator::kModulo;
  if (divides && v == 0.0) fail("division by zero");
  switch (op) {
    case Operator::kAdd:
      return Value::real(u + v);
    case Operator::kSubtract:
      return Value::real(u - v);
    case Operator::kMultiply:
      return Value::real(u * v);
    case Operator::kDivide:
      return Value::real(u / v);
    case Operator::kFloorDivide:
      return Value::real(float_floor_divide(u, v));
    case Operator::kModulo:
      return Value::real(float_modulo(u, v));
    case Operator::kPower:
      return Value::real(float_power(u, v));
  }
  fail("unknown operator");
}

Value negated(const Value& number) {
  int64_t buffer;
  if (const int64_t* integer = number.as_integer(buffer)) {
    if (*integer == std::numeric_limits<int64_t>::min()) fail(kTooLarge);
    return Value::integer(-*integer);
  }
  return Value::real(-*number.get<double>());
}

int64_t truncated(double value) {
  if (std::isnan(value)) fail("NaN is no integer");
  if (value >= 9223372036854775808.0 || value < -9223372036854775808.0) fail(kTooLarge);
  return static_cast<int64_t>(value);
}

std::optional<int64_t> parse_int(std::string_view text, int64_t base) {
  if (base != 0 && (base < 2 || base > 36)) return std::nullopt;
  bool negative = false, valid = true;
  std::string digits(number_body(text, negative));
  const auto prefix = [&](char letter) {
    return digits.size() > 2 && digits[0] == '0' && std::tolower(digits[1]) == letter;
  };
  for (const auto& [letter, own] : {std::pair{'x', 16}, {'o', 8}, {'b', 2}}) {
    if (!prefix(letter) || (base != own && base != 0)) continue;
    digits.erase(0, digits[2] == '_' ? 3 : 2);
    base = own;
    break;
  }
  digits = without_underscores(digits, valid);
  if (base == 0) {
    if (digits.size() > 1 && digits[0] == '0' && digits.find_first_not_of('0') != std::string::npos)
      valid = false;
    base = 10;
  }
  if (!valid || digits.empty()) return std::nullopt;
  uint64_t magnitude = 0;
  const auto [end, code] =
      std::from_chars(digits.data(), digits.data() + digits.size(), magnitude, static_cast<int>(base));
  if (end != digits.data() + digits.size()) return std::nullopt;
  if (code != std::errc() || magnitude > static_cast<uint64_t>(INT64_MAX)) fail(kTooLarge);
  return negative ? -static_cast<int64_t>(magnitude) : static_cast<int64_t>(magnitude);
}

std::optional<double> parse_float(std::string_view text) {
  bool negative = false, valid = true;
  std::string body = without_underscores(number_body(text, negative), valid);
  for (char& c : body) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  double value = 0.0;
  if (body == "inf" || body == "infinity") {
    value = std::numeric_limits<double>::infinity();
  } else if (body == "nan") {
    value = std::numeric_limits<double>::quiet_NaN();
  } else {
    const bool starts_well = !body.empty() && (body[0] == '.' || (body[0] >= '0' && body[0] <= '9'));
    if (!valid || !starts_well || body.find_first_not_of("0123456789.e+-") != std::string::npos)
      return std::nullopt;
    const auto [end, code] = std::from_chars(body.data(), body.data() + body.size(), value);
    if (end != body.data() + body.size()) return std::nullopt;
    if (code == std::errc::result_out_of_range) value = std::strtod(body.c_str(), nullptr);
  }
  return negative ? -value : value;
}

}  // namespace sepllm::jinja
