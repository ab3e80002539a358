#include <cstddef>
#include <cstdint>

#include "tests/fuzz/chat_template_inputs.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  sepllm::test::try_chat_template({reinterpret_cast<const char*>(data), size});
  return 0;
}
