#include <cstddef>
#include <cstdint>

#include "tests/fuzz/document_inputs.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  sepllm::test::try_documents(bytes, sepllm::InputForm::kJsonLines);
  sepllm::test::try_documents(bytes, sepllm::InputForm::kText);
  sepllm::test::try_array(bytes);
  return 0;
}
