#include <cstddef>
#include <cstdint>

#include "tests/fuzz/request_inputs.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  sepllm::test::accepts_request({reinterpret_cast<const char*>(data), size});
  return 0;
}
