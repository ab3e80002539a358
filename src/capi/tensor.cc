#include "capi/tensor.h"

#include <sepllm/sepllm.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <utility>

#include "base/error.h"
#include "capi/guard.h"

namespace sepllm::capi {
namespace {

[[noreturn]] void refuse_tensor(const char* name, const std::string& why) {
  throw Error(ErrorCode::kInvalidArgument, "the tensor " + std::string(name) + " " + why);
}

// Whether [size][stride] elements, of which each holds `dim`, are all apart from each other.
bool are_apart(std::array<std::pair<int64_t, int64_t>, 3> axes, int64_t dim) {
  std::sort(axes.begin(), axes.end());
  int64_t extent = dim;
  for (const auto& [stride, size] : axes) {
    if (size <= 1) continue;
    if (stride < extent) return false;
    extent = stride * (size - 1) + extent;
  }
  return true;
}

}  // namespace

Heads checked_heads(const sepllm_tensor& t, const TensorShape& shape, const char* name, bool written) {
  constexpr int64_t kMost = int64_t{1} << 46;  // elements: far below where byte offsets overflow
  if (t.data == nullptr) refuse_tensor(name, "has no data");
  if (reinterpret_cast<uintptr_t>(t.data) % alignof(float) != 0)
    refuse_tensor(name, "is not aligned to 4 bytes");
  const std::array<std::pair<int64_t, int64_t>, 3> axes = {
      {{t.batch_stride, shape.batch}, {t.head_stride, shape.heads}, {t.token_stride, shape.tokens}}};
  for (const auto& [stride, size] : axes) {
    if (size <= 1) continue;
    if (stride < 0 || stride > kMost / size)
      refuse_tensor(name, "has a stride that is negative or too large");
  }
  if (written && !are_apart(axes, shape.dim)) refuse_tensor(name, "is written and overlaps itself");
  const auto stride_of = [](int64_t stride, int64_t size) { return size > 1 ? stride : int64_t{0}; };
  return {.data = t.data,
          .row_stride = stride_of(t.token_stride, shape.tokens),
          .layout = HeadLayout::even(shape.heads, shape.dim, stride_of(t.head_stride, shape.heads)),
          .batch_stride = stride_of(t.batch_stride, shape.batch)};
}

}  // namespace sepllm::capi
