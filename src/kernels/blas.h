// OpenBLAS, set up for use by the kernels.
#pragma once

#include <cblas.h>  // IWYU pragma: export

namespace sepllm {

// Our threads share the tiles of a product, so BLAS must not start its own.
inline void single_threaded_blas() {
  static const bool single = (openblas_set_num_threads(1), true);
  static_cast<void>(single);
}

}  // namespace sepllm
