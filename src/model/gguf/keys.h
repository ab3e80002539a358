// The metadata of one architecture in a GGUF file, "llama.block_count" and so on.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "base/json.h"
#include "checkpoint/gguf_metadata.h"

namespace sepllm {

class GgufKeys {
 public:
  GgufKeys(const GgufMetadata& metadata, std::string architecture)
      : m_(metadata), prefix_(std::move(architecture) + ".") {}

  const GgufMetadata& metadata() const { return m_; }
  std::string of(const char* key) const { return prefix_ + key; }
  bool has(const char* key) const { return m_.has(of(key)); }
  // From 1 to `most`; Error (kBadFile, kNotFound) as GgufMetadata's.
  int64_t size(const char* key, int64_t most) const { return m_.integer(of(key), 1, most); }
  int64_t size_or(const char* key, int64_t fallback, int64_t most) const {
    return m_.integer_or(of(key), fallback, 1, most);
  }
  // As the shortest decimal that is the stored f32: the number that config.json had.
  double number(const char* key) const;
  double number_or(const char* key, double fallback) const { return has(key) ? number(key) : fallback; }
  bool boolean_or(const char* key, bool fallback) const { return m_.boolean_or(of(key), fallback); }

  // Error (kUnsupported) about a setting that this program does not do.
  [[noreturn]] void refuse(const char* key, const std::string& message, const std::string& expected,
                           const std::string& got) const;
  // That Error where the key is there with another value than this one.
  void require(const char* key, double value) const;

 private:
  const GgufMetadata& m_;
  std::string prefix_;
};

}  // namespace sepllm
