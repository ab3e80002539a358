#include "kernels/formats/format.h"

#include "base/check.h"

namespace sepllm {

#define SEPLLM_DECLARE(NAME, TEXT, ELEMENTS, BYTES) \
  extern const BlockFormat kFormat##NAME;           \
  static_assert((ELEMENTS) % kGroupElements == 0 && (ELEMENTS) / kGroupElements <= kMostGroups);
SEPLLM_BLOCK_TYPES(SEPLLM_DECLARE)
SEPLLM_KEPT_BLOCK_TYPES(SEPLLM_DECLARE)
#undef SEPLLM_DECLARE

const BlockFormat& format_of(DType type) {
  switch (type) {
#define SEPLLM_CASE(NAME, ...) \
  case DType::k##NAME:         \
    return kFormat##NAME;
    SEPLLM_BLOCK_TYPES(SEPLLM_CASE)
    SEPLLM_KEPT_BLOCK_TYPES(SEPLLM_CASE)
#undef SEPLLM_CASE
    default:
      break;
  }
  SEPLLM_CHECK(has_panels(type));
  return format_of(kBlockTypes[0]);  // not reached
}

}  // namespace sepllm
