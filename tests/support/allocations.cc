#include "tests/support/allocations.h"

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace {
std::atomic<int64_t> n_allocations{0};

// Set by NoMemory.
std::atomic<bool> buffers_fail{false}, all_fail{false};
std::atomic<int64_t> until_failure{0};
std::atomic<int64_t> failures_left{0};
std::atomic<int64_t> n_failed_now{0};

[[maybe_unused]] bool out_of_memory(const std::atomic<bool>& these_fail) {
  if (!these_fail.load(std::memory_order_relaxed)) return false;
  if (until_failure.fetch_sub(1) > 0 || failures_left.fetch_sub(1) <= 0) return false;
  n_failed_now.fetch_add(1);
  return true;
}

}  // namespace

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

void* operator new(size_t size) {
  n_allocations.fetch_add(1, std::memory_order_relaxed);
  if (out_of_memory(all_fail)) throw std::bad_alloc();
  if (void* p = std::malloc(size == 0 ? 1 : size)) return p;
  throw std::bad_alloc();
}

void* operator new(size_t size, std::align_val_t alignment) {
  n_allocations.fetch_add(1, std::memory_order_relaxed);
  if (out_of_memory(all_fail)) throw std::bad_alloc();
  const auto a = static_cast<size_t>(alignment);
  void* p = nullptr;
  if (::posix_memalign(&p, a, (size + a - 1) / a * a) == 0) return p;
  throw std::bad_alloc();
}

extern "C" void* aligned_alloc(size_t alignment, size_t size) noexcept {
  void* p = nullptr;
  if (!out_of_memory(buffers_fail) && ::posix_memalign(&p, alignment, size) == 0) return p;
  errno = ENOMEM;
  return nullptr;
}

void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, size_t, std::align_val_t) noexcept { std::free(p); }

#endif

namespace sepllm::test {

NoMemory::NoMemory(int64_t after, int64_t n_failing, Of of) {
  until_failure = after;
  failures_left = n_failing;
  n_failed_now = 0;
  all_fail = of == Of::kAll;
  buffers_fail = true;
}

NoMemory::~NoMemory() { buffers_fail = all_fail = false; }

int64_t NoMemory::n_failed() const { return n_failed_now; }

bool NoMemory::works() {
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  return true;
#else
  return false;
#endif
}

int64_t allocation_count() { return n_allocations.load(std::memory_order_relaxed); }

}  // namespace sepllm::test
