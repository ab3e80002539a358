// Numbers and rows as a sequence of bytes, for state files. A ByteWriter can be anything that takes bytes;
// reading checks everything.
#pragma once

#include <bit>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace sepllm {

static_assert(std::endian::native == std::endian::little, "state files hold numbers as they lie in memory");

class ByteWriter {
 public:
  virtual ~ByteWriter() = default;
  virtual void bytes(const void* from, uint64_t n) = 0;

  template <typename T>
  void value(T v) {
    static_assert(std::is_arithmetic_v<T>);
    bytes(&v, sizeof v);
  }
  template <typename T>
  void list(std::span<const T> values) {
    static_assert(std::is_arithmetic_v<T>);
    bytes(values.data(), values.size_bytes());
  }
};

// Counts the bytes that would be written, before anything is written.
class ByteCounter : public ByteWriter {
 public:
  void bytes(const void* /*from*/, uint64_t n) override { n_ += n; }
  uint64_t count() const { return n_; }

 private:
  uint64_t n_ = 0;
};

class StringWriter : public ByteWriter {
 public:
  explicit StringWriter(std::string* to) : to_(to) {}
  void bytes(const void* from, uint64_t n) override { to_->append(static_cast<const char*>(from), n); }

 private:
  std::string* to_;
};

// Reads values one after the other from bytes that somebody else owns. Every Error (kBadFile) names `file`
// and `place`.
class ByteReader {
 public:
  ByteReader(std::string_view bytes, std::string file, std::string place)
      : left_(bytes), file_(std::move(file)), place_(std::move(place)) {}

  uint64_t left() const { return left_.size(); }
  // Error if fewer than n bytes are left. Call it before memory is allocated for them.
  void need(uint64_t n) const;
  void bytes(void* to, uint64_t n);
  template <typename T>
  T value() {
    static_assert(std::is_arithmetic_v<T>);
    T v{};
    bytes(&v, sizeof v);
    return v;
  }
  template <typename T>
  void list(std::span<T> to) {
    static_assert(std::is_arithmetic_v<T>);
    bytes(to.data(), to.size_bytes());
  }
  // An int64 in [min, max]; `what` names it in the Error.
  int64_t integer(const char* what, int64_t min, int64_t max);
  // Error unless all bytes have been read.
  void finish() const;
  [[noreturn]] void refuse(const std::string& message) const;

 private:
  std::string_view left_;
  std::string file_, place_;
};

// A 64-bit hash that protects against accidents, not against attacks. The same bytes give the same value
// however they are cut into pieces; a change within one word of 8 bytes always changes it.
class Hash64 {
 public:
  void add(const void* from, uint64_t n);
  uint64_t value() const;

 private:
  void take(const unsigned char* block);

  static constexpr uint64_t kBlock = 32;
  uint64_t lanes_[4] = {0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89};
  unsigned char pending_[kBlock] = {};
  uint64_t n_ = 0;
};

std::string hex64(uint64_t value);  // 16 digits

}  // namespace sepllm
