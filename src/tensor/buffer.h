// Owned memory, 64-byte aligned.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace sepllm {

// What a buffer holds at first.
enum class Memory {
  kZeros,
  kAnything,   // as the system gives it: a page takes memory when it is first written
  kAddresses,  // the same, and more may be asked for than the machine has: for plans
};

class Buffer {
 public:
  Buffer() = default;
  // Error (kOutOfRange) naming `what` where the machine has not that much memory.
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
    int64_t mapped_bytes;  // 0: of the heap
    void operator()(void* p) const;
  };
  std::unique_ptr<void, Free> data_;
  int64_t bytes_ = 0;
};

}  // namespace sepllm
