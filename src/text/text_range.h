// A part of a text, as a range of bytes.
#pragma once

#include <cstddef>

namespace sepllm {

struct TextRange {
  size_t begin, end;  // [begin, end)
};

}  // namespace sepllm
