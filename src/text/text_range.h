// A part of a text by its bytes.
#pragma once

#include <cstddef>

namespace sepllm {

struct TextRange {
  size_t begin, end;  // [begin, end)
};

}  // namespace sepllm
