#include "kernels/formats/stored_format.h"

#include "kernels/formats/format.h"

namespace sepllm {

#define SEPLLM_DECLARE(NAME, TEXT, ELEMENTS, BYTES) \
  extern const StoredFormat kStored##NAME;          \
  static_assert((ELEMENTS) <= kMostGroups * kGroupElements);
SEPLLM_STORED_BLOCK_TYPES(SEPLLM_DECLARE)
#undef SEPLLM_DECLARE

const StoredFormat* stored_format(DType type) {
  switch (type) {
#define SEPLLM_CASE(NAME, ...) \
  case DType::k##NAME:         \
    return &kStored##NAME;
    SEPLLM_STORED_BLOCK_TYPES(SEPLLM_CASE)
#undef SEPLLM_CASE
    default:
      return nullptr;
  }
}

}  // namespace sepllm
