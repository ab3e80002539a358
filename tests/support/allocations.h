// Counts allocations, for tests that something allocates nothing, and lets some fail, for tests of what
// happens then. A program that uses this gets its own operator new and aligned_alloc; under the sanitizers,
// which bring theirs, the count stays 0 and nothing fails.
#pragma once

#include <cstdint>

namespace sepllm::test {

// The number of calls of operator new so far, in all threads.
int64_t allocation_count();

// While it lives, there is no memory: `after` allocations succeed, the next `n_failing` fail, and then there
// is memory again.
class NoMemory {
 public:
  enum class Of {
    kBuffers,  // tensor/buffer.h
    kAll,      // operator new too
  };
  explicit NoMemory(int64_t after = 0, int64_t n_failing = INT64_MAX, Of of = Of::kBuffers);
  ~NoMemory();
  NoMemory(const NoMemory&) = delete;
  NoMemory& operator=(const NoMemory&) = delete;

  int64_t n_failed() const;
  static bool works();  // false under the sanitizers
};

}  // namespace sepllm::test
