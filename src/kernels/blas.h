// OpenBLAS as the kernels use it.
#pragma once

#include <cblas.h>

namespace sepllm {

// Our threads share the tiles of a product: BLAS must not start its own.
inline void single_threaded_blas() {
  static const bool single = (openblas_set_num_threads(1), true);
  static_cast<void>(single);
}

}  // namespace sepllm
