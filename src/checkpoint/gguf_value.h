// Values of a GGUF file's metadata as they lie in the file. (ggml's docs/gguf.md)
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace sepllm {

// The numbers of the format.
enum class GgufType : uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64
};
inline constexpr uint32_t kGgufTypes = 13;

const char* gguf_type_name(GgufType type);  // "u8", "string"
// Bytes of a value of this type; 0 for strings and arrays, whose sizes differ.
uint64_t gguf_type_bytes(GgufType type);

// A value that has been checked: reading it cannot fail, and takes no memory. It points into the file.
struct GgufValue {
  GgufType type = GgufType::kU8;
  GgufType element_type = GgufType::kU8;  // of an array
  uint64_t count = 0;                     // elements of an array
  std::string_view bytes{};  // of a number or bool; the text of a string; the elements as they are stored

  // None where the value is of another type. Integers of all types that fit into int64; numbers of all types.
  std::optional<int64_t> integer() const;
  std::optional<double> number() const;
  std::optional<bool> boolean() const;
  std::optional<std::string_view> text() const;  // any bytes: the format promises UTF-8, files do not keep it
};

// Takes what a GGUF file consists of off its front, with checks. Every Error (kBadFile) names `file`, the
// place and the byte offset.
class GgufReader {
 public:
  // `place`: what is being read, until set_place().
  GgufReader(std::string_view bytes, const std::string& file) : bytes_(bytes), file_(&file) {}

  void set_place(std::string place) { place_ = std::move(place); }
  uint64_t offset() const { return at_; }
  uint64_t left() const { return bytes_.size() - at_; }

  // n bytes; `what` names them in the Error.
  std::string_view take(uint64_t n, const char* what);
  template <typename T>
  T number(const char* what) {
    const std::string_view from = take(sizeof(T), what);
    T value;
    std::memcpy(&value, from.data(), from.size());
    return value;
  }
  // A u64 and as many bytes, at most `most`.
  std::string_view string(const char* what, uint64_t most = UINT64_MAX);
  // A u32 that is the number of a type.
  GgufType type(const char* what);
  // A value of this type. Arrays may nest to a depth of 4; bools are 0 or 1.
  GgufValue value(GgufType type, int depth = 0);

  [[noreturn]] void fail(const std::string& message, const std::string& expected = "",
                         const std::string& got = "") const;

 private:
  GgufValue array(int depth);
  void check_bools(std::string_view bytes) const;

  std::string_view bytes_;
  const std::string* file_;
  std::string place_{};
  uint64_t at_ = 0;
};

// fn(GgufValue) for each element of an array, in order.
template <typename Fn>
void for_elements(const GgufValue& array, const Fn& fn) {
  static const std::string kNoFile;  // the elements have been checked: there is nothing to report
  GgufReader reader(array.bytes, kNoFile);
  for (uint64_t k = 0; k < array.count; ++k) fn(reader.value(array.element_type));
}

}  // namespace sepllm
