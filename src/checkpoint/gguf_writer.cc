#include "checkpoint/gguf_writer.h"

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/error.h"
#include "checkpoint/gguf_tensor_type.h"
#include "checkpoint/gguf_value.h"

namespace sepllm {
namespace {

constexpr uint32_t kWrittenVersion = 3;
constexpr uint64_t kPaddedTo = 32;  // the format's default
constexpr size_t kLongestName = 64;

template <typename T>
std::string raw(T value) {
  std::string out(sizeof(T), '\0');
  std::memcpy(out.data(), &value, sizeof(T));
  return out;
}

std::string raw_text(std::string_view text) { return raw(uint64_t{text.size()}) + std::string(text); }

template <typename T>
std::string raw_array(GgufType type, const std::vector<T>& values) {
  std::string out = raw(static_cast<uint32_t>(type)) + raw(uint64_t{values.size()});
  for (const T& value : values) out += raw(value);
  return out;
}

uint64_t padding(uint64_t bytes) { return (kPaddedTo - bytes % kPaddedTo) % kPaddedTo; }

uint64_t data_bytes(const StoredTensor& t) {
  SEPLLM_CHECK(t.type && !t.shape.empty() && t.shape.size() <= 4);
  SEPLLM_CHECK(t.shape.back() % block_elements(*t.type) == 0);
  int64_t bytes = row_bytes(*t.type, t.shape.back());
  for (size_t d = 0; d + 1 < t.shape.size(); ++d) bytes *= t.shape[d];
  return static_cast<uint64_t>(bytes);
}

// What the file says about a tensor.
std::string entry(const StoredTensor& t, uint64_t offset) {
  if (t.name.size() > kLongestName) {
    throw Error(ErrorCode::kInvalidArgument, "the tensor's name is too long for GGUF",
                {.place = t.name, .expected = fmt::format("at most {} bytes", kLongestName)});
  }
  std::string out = raw_text(t.name) + raw(static_cast<uint32_t>(t.shape.size()));
  for (auto size = t.shape.rbegin(); size != t.shape.rend(); ++size) out += raw(static_cast<uint64_t>(*size));
  const GgufTensorType* type = gguf_tensor_type(*t.type);
  SEPLLM_CHECK(type != nullptr);
  return out + raw(type->number) + raw(offset);
}

}  // namespace

void GgufFields::key(const std::string& key, uint32_t type) {
  SEPLLM_CHECK(!key.empty() && keys_.insert(key).second);
  bytes_ += raw_text(key) + raw(type);
}

void GgufFields::text(const std::string& name, std::string_view value) {
  key(name, static_cast<uint32_t>(GgufType::kString));
  bytes_ += raw_text(value);
}
void GgufFields::u32(const std::string& name, uint32_t value) {
  key(name, static_cast<uint32_t>(GgufType::kU32));
  bytes_ += raw(value);
}
void GgufFields::f32(const std::string& name, float value) {
  key(name, static_cast<uint32_t>(GgufType::kF32));
  bytes_ += raw(value);
}
void GgufFields::flag(const std::string& name, bool value) {
  key(name, static_cast<uint32_t>(GgufType::kBool));
  bytes_ += value ? '\1' : '\0';
}
void GgufFields::texts(const std::string& name, const std::vector<std::string>& values) {
  key(name, static_cast<uint32_t>(GgufType::kArray));
  bytes_ += raw(static_cast<uint32_t>(GgufType::kString)) + raw(uint64_t{values.size()});
  for (const std::string& value : values) bytes_ += raw_text(value);
}
void GgufFields::i32s(const std::string& name, const std::vector<int32_t>& values) {
  key(name, static_cast<uint32_t>(GgufType::kArray));
  bytes_ += raw_array(GgufType::kI32, values);
}
void GgufFields::f32s(const std::string& name, const std::vector<float>& values) {
  key(name, static_cast<uint32_t>(GgufType::kArray));
  bytes_ += raw_array(GgufType::kF32, values);
}
void GgufFields::add(const GgufFields& others) {
  for (const std::string& key : others.keys_) SEPLLM_CHECK(keys_.insert(key).second);
  bytes_ += others.bytes_;
}

GgufWriter::GgufWriter(const std::string& path, const GgufFields& fields, std::vector<StoredTensor> tensors)
    : file_(path), tensors_(std::move(tensors)) {
  std::string header =
      "GGUF" + raw(kWrittenVersion) + raw(uint64_t{tensors_.size()}) + raw(fields.count()) + fields.bytes();
  uint64_t offset = 0;
  for (const StoredTensor& t : tensors_) {
    header += entry(t, offset);
    const uint64_t bytes = data_bytes(t);
    offset += bytes + padding(bytes);
  }
  file_.write(header);
  file_.write(std::string(padding(header.size()), '\0'));
}

void GgufWriter::write(const void* data) {
  SEPLLM_CHECK(next_ < tensors_.size());
  const uint64_t bytes = data_bytes(tensors_[next_++]);
  file_.write({static_cast<const char*>(data), bytes});
  file_.write(std::string(padding(bytes), '\0'));
}

void GgufWriter::commit() {
  SEPLLM_CHECK(next_ == tensors_.size());
  file_.commit();
}

bool gguf_has_type(DType type) { return gguf_tensor_type(type) != nullptr; }

}  // namespace sepllm
