#include "model/stored_rows.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "kernels/formats/rows.h"
#include "model/tensor_list.h"
#include "model/weights.h"

namespace sepllm {
namespace {

class Lister {
 public:
  Lister(const ModelSpec& spec, const ModelWeights& slots)
      : spec_(spec), slots_(slots), transposed_(spec.names.transposed_linears && !spec.blocks) {}

  void table(const Weight& slot, const std::string& name, int64_t rows, int64_t columns) {
    const bool positions = &slot == &slots_.position_embedding;
    add({.name = name,
         .kind = positions ? ModelTensor::Kind::kPositions : ModelTensor::Kind::kTable,
         .n_out = rows,
         .n_in = columns});
  }
  void linear(const Linear&, const std::string& weight, const std::string& bias, int64_t n_out,
              int64_t n_in) {
    add({.name = weight,
         .kind = ModelTensor::Kind::kLinear,
         .n_out = n_out,
         .n_in = n_in,
         .transposed = transposed_});
    vector(bias, n_out);
  }
  void norm(const Norm&, const std::string& weight, const std::string& bias, int64_t n) {
    vector(weight, n, static_cast<float>(spec_.stored_norm_offset));
    vector(bias, n);
  }
  std::vector<ModelTensor> take() { return std::move(list_); }

 private:
  void vector(const std::string& name, int64_t n, float offset = 0) {
    if (!name.empty()) add({.name = name, .n_out = n, .n_in = 1, .offset = offset});
  }
  void add(ModelTensor tensor) {
    if (const auto order = spec_.row_orders.find(tensor.name); order != spec_.row_orders.end())
      tensor.order = order->second;
    list_.push_back(std::move(tensor));
  }

  const ModelSpec& spec_;
  const ModelWeights& slots_;
  bool transposed_;
  std::vector<ModelTensor> list_;
};

// to[order[r]] = from[r], rows of `bytes` each.
void scatter_rows(const char* from, const std::vector<int64_t>& order, int64_t bytes, char* to) {
  for (size_t r = 0; r < order.size(); ++r)
    std::copy_n(from + static_cast<int64_t>(r) * bytes, bytes, to + order[r] * bytes);
}

void transpose(const char* from, int64_t rows, int64_t columns, int64_t size, char* to) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c)
      std::copy_n(from + (r * columns + c) * size, size, to + (c * rows + r) * size);
  }
}

// n floats and `by`, in `type`.
Buffer shifted(const Buffer& floats, int64_t n, float by, DType type) {
  for (int64_t i = 0; i < n; ++i) floats.as<float>()[i] += by;
  Buffer out(n * dtype_size(type), "a tensor to write");
  row_from_f32(type, floats.as<float>(), n, out.data());
  return out;
}

}  // namespace

std::vector<ModelTensor> list_tensors(const ModelSpec& spec, const StoredNames& names) {
  ModelWeights slots;
  Lister lister(spec, slots);
  visit_model(spec, names, &slots, lister);
  return lister.take();
}

StoredMatrix stored_matrix(const WeightStore& store, const ModelTensor& tensor, std::optional<DType> blocks) {
  const StoredTensor& stored = store.tensor(tensor.name);
  StoredMatrix out{.data = stored.data,
                   .n_out = tensor.n_out,
                   .n_in = tensor.n_in,
                   .transposed = tensor.transposed,
                   .order = tensor.order,
                   .file = stored.file,
                   .name = stored.name};
  if (blocks && tensor.kind == ModelTensor::Kind::kLinear) {
    out.type = *blocks;
  } else if (blocks && tensor.kind == ModelTensor::Kind::kTable) {
    out.type = table_type(*blocks);
  } else {
    SEPLLM_CHECK(stored.type);
    out.type = *stored.type;
  }
  return out;
}

Buffer moved_rows(const StoredMatrix& matrix, const ModelTensor& from, const ModelTensor& to, DType type,
                  ThreadPool& pool, SmallRows* small) {
  const float shift = to.offset - from.offset;
  Buffer rows = convert_to_rows(matrix, shift == 0 ? type : DType::kF32, pool, small);
  if (shift != 0) rows = shifted(rows, to.n_out, shift, type);
  const bool transposed = to.transposed && !is_block_type(type);
  if (!to.order && !transposed) return rows;
  Buffer out(rows.bytes(), "a tensor to write");
  if (to.order) {
    SEPLLM_CHECK(!transposed);
    scatter_rows(rows.as<char>(), *to.order, row_bytes(type, to.n_in), out.as<char>());
  } else {
    transpose(rows.as<char>(), to.n_out, to.n_in, dtype_size(type), out.as<char>());
  }
  return out;
}

}  // namespace sepllm
