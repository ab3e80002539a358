// Scratch memory of one forward pass: allocation is an addition, release is going back to a mark. Once it has
// grown to its peak, it asks the system for nothing more.
#pragma once

#include <cstdint>
#include <vector>

#include "tensor/buffer.h"

namespace sepllm {

class Arena {
 public:
  // 64-byte aligned, uninitialised; valid until the mark before it is released. n >= 0.
  template <typename T>
  T* allocate(int64_t n) {
    return static_cast<T*>(allocate_bytes(n * static_cast<int64_t>(sizeof(T))));
  }
  void* allocate_bytes(int64_t bytes);

  // Everything allocated while a Scope lives is released at its end.
  class Scope {
   public:
    explicit Scope(Arena& arena) : arena_(arena), block_(arena.block_), used_(arena.used_) {}
    ~Scope() {
      arena_.block_ = block_;
      arena_.used_ = used_;
      arena_.drop_if_scattered();
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Arena& arena_;
    size_t block_;
    int64_t used_;
  };

  int64_t reserved_bytes() const;

 private:
  void drop_if_scattered() noexcept;

  std::vector<Buffer> blocks_;
  size_t block_ = 0;                  // the block in use
  int64_t used_ = 0;                  // bytes used of it
  int64_t least_ = int64_t{1} << 20;  // bytes of the next block at least
};

}  // namespace sepllm
