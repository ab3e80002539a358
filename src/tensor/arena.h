// Scratch memory of a pass: an allocation is an addition, and a release goes back to a mark. After it has
// grown to its peak, or got that much in advance, it asks the system for nothing more. Memory that was never
// allocated is never touched: a block that is too large costs only addresses.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tensor/buffer.h"

namespace sepllm {

class Arena {
 public:
  explicit Arena(Memory memory = Memory::kAnything) : memory_(memory) {}

  // Gets one block of this size, for a pass whose peak is known. Call it only before anything is allocated.
  void reserve(int64_t bytes);

  // 64-byte aligned, uninitialised; valid until the mark before it is released. n >= 0.
  template <typename T>
  T* allocate(int64_t n) {
    return static_cast<T*>(allocate_bytes(n * static_cast<int64_t>(sizeof(T))));
  }
  void* allocate_bytes(int64_t bytes);

  // Everything that is allocated while a Scope lives is released at its end.
  class Scope {
   public:
    explicit Scope(Arena& arena)
        : arena_(arena), block_(arena.block_), used_(arena.used_), allocated_(arena.allocated_) {}
    ~Scope() {
      arena_.block_ = block_;
      arena_.used_ = used_;
      arena_.allocated_ = allocated_;
      arena_.drop_if_scattered();
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Arena& arena_;
    size_t block_;
    int64_t used_;
    int64_t allocated_;
  };

  int64_t reserved_bytes() const;
  int64_t allocated_bytes() const { return allocated_; }  // now; each allocation counts in whole 64 bytes
  int64_t peak_bytes() const { return peak_; }            // the largest value of allocated_bytes()
  void reset_peak() { peak_ = allocated_; }               // measures the peak from here on

 private:
  void drop_if_scattered() noexcept;

  Memory memory_;
  std::vector<Buffer> blocks_;
  size_t block_ = 0;                  // the current block
  int64_t used_ = 0;                  // bytes used of it
  int64_t least_ = int64_t{1} << 20;  // minimum size of the next block
  int64_t allocated_ = 0, peak_ = 0;
};

}  // namespace sepllm
