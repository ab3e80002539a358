// Small GGUF files, right or wrong, for tests.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/gguf_value.h"

namespace sepllm::test {

template <typename T>
std::string raw_bytes(T value) {
  std::string out(sizeof(T), '\0');
  std::memcpy(out.data(), &value, sizeof(T));
  return out;
}

inline std::string gguf_string(std::string_view text) {
  return raw_bytes(uint64_t{text.size()}) + std::string(text);
}

// `elements`: as they are stored, one after the other.
inline std::string gguf_array(GgufType type, uint64_t count, const std::string& elements) {
  return raw_bytes(static_cast<uint32_t>(type)) + raw_bytes(count) + elements;
}

// What a file says; bytes() writes it without any check.
struct GgufBytes {
  struct Key {
    std::string name;
    uint32_t type;
    std::string value;
  };
  struct Tensor {
    std::string name;
    std::vector<uint64_t> sizes;  // that of a row first, as in the file
    uint32_t type;
    std::string data;
    std::optional<uint64_t> offset{};  // else behind the one before
  };

  uint32_t version = 3;
  uint64_t alignment = 32;  // of the data; a key of its own says so
  std::vector<Key> keys{};
  std::vector<Tensor> tensors{};
  std::optional<uint64_t> n_keys{}, n_tensors{};  // other counts than there are

  GgufBytes& key(const std::string& name, GgufType type, const std::string& value) {
    keys.push_back({name, static_cast<uint32_t>(type), value});
    return *this;
  }
  GgufBytes& text(const std::string& name, std::string_view value) {
    return key(name, GgufType::kString, gguf_string(value));
  }
  GgufBytes& u32(const std::string& name, uint32_t value) {
    return key(name, GgufType::kU32, raw_bytes(value));
  }
  GgufBytes& tensor(const std::string& name, const std::vector<uint64_t>& sizes, uint32_t type,
                    const std::string& data) {
    tensors.push_back({name, sizes, type, data});
    return *this;
  }

  std::string bytes() const {
    std::string out = "GGUF" + raw_bytes(version) + raw_bytes(n_tensors.value_or(tensors.size())) +
                      raw_bytes(n_keys.value_or(keys.size()));
    for (const Key& k : keys) out += gguf_string(k.name) + raw_bytes(k.type) + k.value;
    std::string data;
    for (const Tensor& t : tensors) {
      out += gguf_string(t.name) + raw_bytes(static_cast<uint32_t>(t.sizes.size()));
      for (const uint64_t size : t.sizes) out += raw_bytes(size);
      out += raw_bytes(t.type) + raw_bytes(t.offset.value_or(data.size()));
      data += t.data;
      data.resize((data.size() + alignment - 1) / alignment * alignment);
    }
    if (!tensors.empty()) out.resize((out.size() + alignment - 1) / alignment * alignment);
    return out + data;
  }
};

// A file with every type of metadata, nested arrays, and tensors of floats, blocks and a type that is not
// ours.
inline GgufBytes small_gguf() {
  GgufBytes out;
  out.text("general.architecture", "llama").u32("llama.block_count", 2);
  out.key("t.u8", GgufType::kU8, raw_bytes(uint8_t{200}));
  out.key("t.i16", GgufType::kI16, raw_bytes(int16_t{-3}));
  out.key("t.i64", GgufType::kI64, raw_bytes(int64_t{-5}));
  out.key("t.f32", GgufType::kF32, raw_bytes(0.5F));
  out.key("t.f64", GgufType::kF64, raw_bytes(0.25));
  out.key("t.bool", GgufType::kBool, raw_bytes(uint8_t{1}));
  const std::string pair = gguf_string("a") + gguf_string("");
  out.key("t.strings", GgufType::kArray, gguf_array(GgufType::kString, 2, pair));
  out.key("t.nested", GgufType::kArray,
          gguf_array(GgufType::kArray, 2,
                     gguf_array(GgufType::kU16, 2, raw_bytes(uint16_t{1}) + raw_bytes(uint16_t{2})) +
                         gguf_array(GgufType::kBool, 1, raw_bytes(uint8_t{0}))));
  out.tensor("norm", {2}, 0, raw_bytes(1.0F) + raw_bytes(2.0F));
  out.tensor("matrix", {3, 2}, 1, std::string(12, '\x3c'));
  out.tensor("blocks", {32, 2}, 8, std::string(68, '\x21'));
  out.tensor("ints", {3}, 24, "abc");
  return out;
}

}  // namespace sepllm::test
