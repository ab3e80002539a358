#include <cstddef>
#include <cstdint>

#include "tests/fuzz/document_inputs.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  sepllm::test::try_documents(bytes, true);
  sepllm::test::try_documents(bytes, false);
  return 0;
}
