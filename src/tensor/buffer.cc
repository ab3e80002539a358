#include "tensor/buffer.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "base/check.h"
#include "base/error.h"

namespace sepllm {
namespace {

constexpr int64_t kHugePage = int64_t{2} << 20;
constexpr int64_t kLarge = 2 * kHugePage;

// With small pages, rows that lie pages apart (a head's rows in a fused QKV) cost a page walk each. This is
// only a hint: the system may refuse, and only whole huge pages within the buffer are meant.
void ask_for_huge_pages(void* p, int64_t bytes) {
#ifdef MADV_HUGEPAGE
  ::madvise(p, static_cast<size_t>(bytes / kHugePage * kHugePage), MADV_HUGEPAGE);
#endif
}

[[noreturn]] void refuse(int64_t bytes, const char* what) {
  throw Error(ErrorCode::kOutOfRange, std::string("out of memory for ") + what,
              {.got = std::to_string(bytes) + " bytes"});
}

}  // namespace

Buffer::Buffer(int64_t bytes, const char* what, Memory memory) : bytes_(bytes) {
  SEPLLM_CHECK(bytes >= 0);
  if (bytes == 0) return;
  if (memory == Memory::kAddresses) {
    void* p = ::mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) refuse(bytes, what);
    data_ = std::unique_ptr<void, Free>(p, Free{bytes});
    return;
  }
  const int64_t align = bytes >= kLarge ? kHugePage : 64;
  void* p = bytes > INT64_MAX - align
                ? nullptr
                : std::aligned_alloc(align, static_cast<size_t>((bytes + align - 1) / align * align));
  if (p == nullptr) refuse(bytes, what);
  if (bytes >= kLarge) ask_for_huge_pages(p, bytes);
  if (memory == Memory::kZeros) std::memset(p, 0, static_cast<size_t>(bytes));
  data_.reset(p);
}

void Buffer::Free::operator()(void* p) const {
  if (mapped_bytes > 0) {
    ::munmap(p, static_cast<size_t>(mapped_bytes));
  } else {
    std::free(p);
  }
}

}  // namespace sepllm
