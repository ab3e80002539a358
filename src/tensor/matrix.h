// A view of float rows, used for activations.
#pragma once

#include <cstdint>

namespace sepllm {

struct Matrix {
  float* data = nullptr;
  int64_t n_rows = 0;
  int64_t n_cols = 0;
  int64_t stride = 0;  // elements between rows, >= n_cols

  float* row(int64_t r) const { return data + r * stride; }
  Matrix rows(int64_t begin, int64_t count) const { return {row(begin), count, n_cols, stride}; }
  Matrix columns(int64_t begin, int64_t count) const { return {data + begin, n_rows, count, stride}; }
};

}  // namespace sepllm
