// What the tests of products share.
#pragma once

#include <cstdint>

namespace sepllm::test {

// x [n_rows, n_in] times W^T [n_in, n_out].
struct LinearShape {
  int64_t n_rows, n_in, n_out;
};

}  // namespace sepllm::test
