#include "tensor/buffer.h"

#include <cstdlib>
#include <cstring>
#include <string>

#include "base/check.h"
#include "base/error.h"

namespace sepllm {

Buffer::Buffer(int64_t bytes, const char* what) : bytes_(bytes) {
  SEPLLM_CHECK(bytes >= 0);
  if (bytes == 0) return;
  constexpr int64_t kAlign = 64;
  void* p = bytes > INT64_MAX - kAlign
                ? nullptr
                : std::aligned_alloc(kAlign, static_cast<size_t>((bytes + kAlign - 1) / kAlign * kAlign));
  if (p == nullptr) {
    throw Error(ErrorCode::kOutOfRange, std::string("out of memory for ") + what,
                {.got = std::to_string(bytes) + " bytes"});
  }
  std::memset(p, 0, static_cast<size_t>(bytes));
  data_.reset(p);
}

void Buffer::Free::operator()(void* p) const { std::free(p); }

}  // namespace sepllm
