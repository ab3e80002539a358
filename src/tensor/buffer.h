// Owned memory, 64-byte aligned.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace sepllm {

// What a new buffer contains.
enum class Memory {
  kZeros,
  kAnything,   // uninitialised: a page takes memory when it is first written
  kAddresses,  // the same, and more may be asked for than the machine has: for plans
};

class Buffer {
 public:
  Buffer() = default;
  // Error (kOutOfRange) naming `what` if the machine does not have that much memory.
  explicit Buffer(int64_t bytes, const char* what = "buffer", Memory memory = Memory::kZeros);

  void* data() const { return data_.get(); }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data());
  }
  int64_t bytes() const { return bytes_; }

 private:
  struct Free {
    Free() : mapped_bytes(0) {}
    explicit Free(int64_t bytes) : mapped_bytes(bytes) {}
    int64_t mapped_bytes;  // 0: from the heap
    void operator()(void* p) const;
  };
  std::unique_ptr<void, Free> data_;
  int64_t bytes_ = 0;
};

}  // namespace sepllm
