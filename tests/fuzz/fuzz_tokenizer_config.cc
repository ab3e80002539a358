#include <cstddef>
#include <cstdint>

#include "tests/fuzz/tokenizer_inputs.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  sepllm::test::try_tokenizer_config({reinterpret_cast<const char*>(data), size});
  return 0;
}
