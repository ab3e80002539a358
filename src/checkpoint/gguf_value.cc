#include "checkpoint/gguf_value.h"

#include <fmt/format.h>

#include <bit>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include "base/check.h"
#include "base/error.h"

namespace sepllm {
namespace {

static_assert(std::endian::native == std::endian::little, "numbers of GGUF are read as they lie in the file");

constexpr int kMaxArrayDepth = 4;

struct GgufTypeInfo {
  const char* name;
  uint64_t bytes;
};
// By the numbers of the types.
constexpr GgufTypeInfo kTypeInfos[] = {{"u8", 1},  {"i8", 1},  {"u16", 2},  {"i16", 2},    {"u32", 4},
                                       {"i32", 4}, {"f32", 4}, {"bool", 1}, {"string", 0}, {"array", 0},
                                       {"u64", 8}, {"i64", 8}, {"f64", 8}};
static_assert(std::size(kTypeInfos) == kGgufTypes);

template <typename T>
T read_as(std::string_view bytes) {
  SEPLLM_CHECK(bytes.size() == sizeof(T));
  T value;
  std::memcpy(&value, bytes.data(), sizeof(T));
  return value;
}

}  // namespace

const char* gguf_type_name(GgufType type) { return kTypeInfos[static_cast<size_t>(type)].name; }
uint64_t gguf_type_bytes(GgufType type) { return kTypeInfos[static_cast<size_t>(type)].bytes; }

std::optional<int64_t> GgufValue::integer() const {
  switch (type) {
    case GgufType::kU8:
      return read_as<uint8_t>(bytes);
    case GgufType::kI8:
      return read_as<int8_t>(bytes);
    case GgufType::kU16:
      return read_as<uint16_t>(bytes);
    case GgufType::kI16:
      return read_as<int16_t>(bytes);
    case GgufType::kU32:
      return read_as<uint32_t>(bytes);
    case GgufType::kI32:
      return read_as<int32_t>(bytes);
    case GgufType::kI64:
      return read_as<int64_t>(bytes);
    case GgufType::kU64: {
      const auto value = read_as<uint64_t>(bytes);
      if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
      return static_cast<int64_t>(value);
    }
    default:
      return std::nullopt;
  }
}

std::optional<double> GgufValue::number() const {
  if (type == GgufType::kF32) return double{read_as<float>(bytes)};
  if (type == GgufType::kF64) return read_as<double>(bytes);
  if (type == GgufType::kU64) return static_cast<double>(read_as<uint64_t>(bytes));
  if (const auto value = integer()) return static_cast<double>(*value);
  return std::nullopt;
}

std::optional<bool> GgufValue::boolean() const {
  if (type != GgufType::kBool) return std::nullopt;
  return bytes.front() != 0;
}

std::optional<std::string_view> GgufValue::text() const {
  if (type != GgufType::kString) return std::nullopt;
  return bytes;
}

void GgufReader::fail(const std::string& message, const std::string& expected, const std::string& got) const {
  throw Error(ErrorCode::kBadFile, message,
              {.file = *file_,
               .place = fmt::format("{}{}byte {}", place_, place_.empty() ? "" : ", ", at_),
               .expected = expected,
               .got = got});
}

std::string_view GgufReader::take(uint64_t n, const char* what) {
  if (n > left()) {
    fail("the file ends too early (truncated?)", fmt::format("{} bytes for {}", n, what),
         fmt::format("{}", left()));
  }
  const std::string_view out = bytes_.substr(at_, n);
  at_ += n;
  return out;
}

std::string_view GgufReader::string(const char* what, uint64_t most) {
  const auto length = number<uint64_t>("a length");
  if (length > most) {
    fail(fmt::format("wrong length of {}", what), fmt::format("at most {} bytes", most),
         fmt::format("{}", length));
  }
  return take(length, what);
}

GgufType GgufReader::type(const char* what) {
  const auto number_of_type = number<uint32_t>(what);
  if (number_of_type >= kGgufTypes) {
    fail(fmt::format("unknown {}", what), fmt::format("0 to {}", kGgufTypes - 1),
         fmt::format("{}", number_of_type));
  }
  return static_cast<GgufType>(number_of_type);
}

GgufValue GgufReader::value(GgufType type, int depth) {
  if (type == GgufType::kArray) return array(depth);
  GgufValue value{.type = type};
  if (type == GgufType::kString) {
    value.bytes = string("a string");
  } else {
    value.bytes = take(gguf_type_bytes(type), "a value");
  }
  if (type == GgufType::kBool) check_bools(value.bytes);
  return value;
}

GgufValue GgufReader::array(int depth) {
  if (depth == kMaxArrayDepth) fail("arrays are nested too deeply", fmt::format("a depth of {}", depth));
  GgufValue out{.type = GgufType::kArray, .element_type = type("type of an array's elements")};
  out.count = number<uint64_t>("an array's length");
  const uint64_t begin = at_;
  if (const uint64_t bytes = gguf_type_bytes(out.element_type); bytes != 0) {
    if (out.count > left() / bytes) {
      fail("an array is longer than the file (truncated?)",
           fmt::format("at most {} elements", left() / bytes), fmt::format("{}", out.count));
    }
    out.bytes = take(out.count * bytes, "an array");
    if (out.element_type == GgufType::kBool) check_bools(out.bytes);
    return out;
  }
  // Each element has a length at least: a count that is too large ends soon.
  for (uint64_t k = 0; k < out.count; ++k) value(out.element_type, depth + 1);
  out.bytes = bytes_.substr(begin, at_ - begin);
  return out;
}

void GgufReader::check_bools(std::string_view bytes) const {
  for (const char c : bytes) {
    if (c != 0 && c != 1) fail("wrong bool", "0 or 1", fmt::format("{}", static_cast<unsigned char>(c)));
  }
}

}  // namespace sepllm
