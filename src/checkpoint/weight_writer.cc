#include "checkpoint/weight_writer.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/check.h"
#include "checkpoint/safetensors.h"

namespace sepllm {
namespace {

SafetensorsTensor as_stored(const StoredTensor& t) {
  SafetensorsTensor out{t.name, t.type ? stored_name(*t.type) : t.dtype, t.shape, t.data};
  if (t.type && is_block_type(*t.type)) {
    SEPLLM_CHECK(t.shape.size() == 2);
    out.shape[1] = row_bytes(*t.type, t.shape[1]);
  }
  return out;
}

std::vector<SafetensorsTensor> all_as_stored(const std::vector<StoredTensor>& tensors) {
  std::vector<SafetensorsTensor> out;
  for (const StoredTensor& t : tensors) out.push_back(as_stored(t));
  return out;
}

}  // namespace

const char* stored_name(DType type) {
  if (type == DType::kF64) return "F64";
  return type == DType::kF32 ? "F32" : type == DType::kF16 ? "F16" : type == DType::kBF16 ? "BF16" : "U8";
}

WeightWriter::WeightWriter(const std::string& path, const std::vector<StoredTensor>& tensors)
    : file_(std::make_unique<SafetensorsWriter>(path, all_as_stored(tensors),
                                                std::map<std::string, std::string>{{"format", "pt"}})) {}
WeightWriter::~WeightWriter() = default;

std::vector<std::string> WeightWriter::order() const {
  std::vector<std::string> names;
  for (const SafetensorsTensor& t : file_->order()) names.push_back(t.name);
  return names;
}

void WeightWriter::write(const void* data) { file_->write(data); }
void WeightWriter::commit() { file_->commit(); }

void write_weight_file(const std::string& path, const std::vector<StoredTensor>& tensors) {
  write_safetensors(path, all_as_stored(tensors), {{"format", "pt"}});
}

}  // namespace sepllm
