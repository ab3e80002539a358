// Converts a checkpoint's matrices to another type than the stored one: for --weights, for the panels of
// stored blocks, and for `sepllm quantize`.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/thread_pool.h"
#include "model/row_order.h"
#include "tensor/buffer.h"
#include "tensor/view.h"

namespace sepllm {

// A matrix [n_out, n_in] where it lies in a file, aligned or not: rows of floats or of blocks
// (kernels/formats/blocks.h), or floats stored as [n_in, n_out].
struct StoredMatrix {
  DType type = DType::kF32;
  const void* data = nullptr;
  int64_t n_out = 0;
  int64_t n_in = 0;
  bool transposed = false;
  RowOrder order{};            // of the rows in the file; not of transposed matrices
  std::string file{}, name{};  // for messages
};

// Rows whose weights are too small for the type that they were converted to: they lose digits that weights of
// the usual size keep, or become 0. A row counts as too small if the error from the limited exponents of the
// type (or of a block's scale) is larger than the rounding error that the type allows for the row's largest
// element.
struct SmallRows {
  int64_t n_rows = 0;   // rows that were checked
  int64_t n_small = 0;  // rows that were too small
  // The first small row: "NAME, row R", its largest magnitude, and the type.
  std::string first{};
  double largest = 0.0;
  DType type = DType::kF32;

  // One warning that names `source`, if there are any.
  void warn(const std::string& source) const;
};

// All conversions go through f32 and round to nearest (blocks: quantize_blocks), except for blocks of the
// same type, which are taken unchanged. Error (kBadFile) naming tensor and row for NaN, infinite values or
// scales; (kOutOfRange) for values that the type cannot hold; rows that are too small are added to `small`.

// The matrix as the kernels read it: rows of floats, or panels; its memory becomes owner's last element.
Weight convert_matrix(const StoredMatrix& from, DType type, ThreadPool& pool, std::vector<Buffer>* owner,
                      SmallRows* small = nullptr);

// The matrix as a file stores it: rows of row_bytes(type, n_in).
Buffer convert_to_rows(const StoredMatrix& from, DType type, ThreadPool& pool, SmallRows* small = nullptr);

}  // namespace sepllm
