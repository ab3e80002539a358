#include <cstddef>
#include <cstdint>

#include "tests/fuzz/checkpoint_inputs.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  sepllm::test::accepts_gguf(bytes);
  sepllm::test::accepts_gguf_model(bytes);
  return 0;
}
