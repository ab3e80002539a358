// Owned memory, 64-byte aligned and zeroed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace sepllm {

class Buffer {
 public:
  Buffer() = default;
  // Error (kOutOfRange) naming `what` where the machine has not that much memory.
  explicit Buffer(int64_t bytes, const char* what = "buffer");

  void* data() const { return data_.get(); }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data());
  }
  int64_t bytes() const { return bytes_; }

 private:
  struct Free {
    void operator()(void* p) const;
  };
  std::unique_ptr<void, Free> data_;
  int64_t bytes_ = 0;
};

}  // namespace sepllm
