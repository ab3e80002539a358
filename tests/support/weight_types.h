// The types that weight matrices can have, for tests that must hold for each of them.
#pragma once

#include <vector>

#include "base/dtype.h"

namespace sepllm::test {

inline std::vector<DType> weight_types() {
  std::vector<DType> types;
  for (const DTypeInfo& info : kDTypeInfos) {
    if (is_weight_type(info.type)) types.push_back(info.type);
  }
  return types;
}

}  // namespace sepllm::test
