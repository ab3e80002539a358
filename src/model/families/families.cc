// The registry of families. Each is defined in the file of its name, as family_NAME().
#include <algorithm>
#include <string>
#include <vector>

#include "base/check.h"
#include "model/families/family.h"

#define SEPLLM_FAMILIES(FAMILY) \
  FAMILY(gpt_neox)              \
  FAMILY(llama)                 \
  FAMILY(gpt2)                  \
  FAMILY(falcon)                \
  FAMILY(mistral)               \
  FAMILY(qwen2)                 \
  FAMILY(qwen3)                 \
  FAMILY(gemma3)                \
  FAMILY(phi3)                  \
  FAMILY(smollm3)               \
  FAMILY(olmo2)

namespace sepllm {

#define SEPLLM_DECLARE(name) const Family& family_##name();
SEPLLM_FAMILIES(SEPLLM_DECLARE)

const std::vector<const Family*>& families() {
#define SEPLLM_POINTER(name) &family_##name(),
  static const std::vector<const Family*> kAll = {SEPLLM_FAMILIES(SEPLLM_POINTER)};
  return kAll;
}

const Family& family_of_name(const std::string& name) {
  const auto& all = families();
  const auto it = std::find_if(all.begin(), all.end(), [&](const Family* f) { return name == f->name; });
  SEPLLM_CHECK(it != all.end());
  return **it;
}

}  // namespace sepllm
