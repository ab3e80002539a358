#include "checkpoint/weight_store.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cctype>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/error.h"
#include "base/json.h"
#include "base/options.h"
#include "checkpoint/foreign_weights.h"
#include "checkpoint/gguf.h"
#include "checkpoint/gguf_parts.h"
#include "checkpoint/model_folder.h"
#include "checkpoint/safetensors.h"

namespace sepllm {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";
constexpr uint64_t kMaxIndexBytes = 100'000'000;

// A shard's name comes from the index, so it may be hostile: it must be a plain name in the folder. The file
// of that name may be a link to anywhere: who can make links in the folder can also put files there.
std::string shard_path(const std::string& folder, const std::string& name, const std::string& index_path) {
  if (name.empty() || name == "." || name == ".." ||
      name.find_first_of(std::string_view("/\0", 2)) != std::string::npos) {
    throw Error(
        ErrorCode::kBadFile, "a shard outside the model's folder",
        {.file = index_path, .place = "weight_map", .expected = "a file name in the folder", .got = name});
  }
  const std::string path = folder + "/" + name;
  if (file_exists(path)) return path;
  std::error_code code;
  const fs::path target = fs::read_symlink(path, code);
  throw Error(ErrorCode::kNotFound, "a shard of the index is missing",
              {.file = index_path,
               .place = name,
               .expected = path,
               .got = code ? "" : "a link to " + target.string() + ", which is not there"});
}

// Reads weight_map of an index: tensor -> shard.
std::map<std::string, std::string> read_index(const std::string& path) {
  const Json json = read_json(path, kMaxIndexBytes, {.refuse_duplicates = true});
  const auto fail = [&](const std::string& place, const char* expected) {
    throw Error(ErrorCode::kBadFile, "wrong index", {.file = path, .place = place, .expected = expected});
  };
  if (!json.is_object()) fail("", "a JSON object");
  const auto map = json.find("weight_map");
  if (map == json.end() || !map->is_object() || map->empty()) {
    fail("weight_map", "an object of tensor names and file names");
  }
  std::map<std::string, std::string> shards;
  for (const auto& [tensor, shard] : map->items()) {
    if (!shard.is_string()) fail("weight_map." + tensor, "a file name");
    shards.emplace(tensor, shard.get<std::string>());
  }
  return shards;
}

}  // namespace

WeightStore WeightStore::open(const std::string& path) {
  WeightStore store;
  store.folder_ = path;
  if (is_gguf_file(path)) {
    store.open_gguf(path);
    return store;
  }
  const std::string& folder = path;
  check_model_folder(folder);
  if (file_exists(folder + "/" + kSingleFile)) {
    store.add_file(folder + "/" + kSingleFile);
  } else if (file_exists(folder + "/" + kIndexFile)) {
    store.open_shards(folder + "/" + kIndexFile);
  } else {
    refuse_model_folder(folder, std::string(kSingleFile) + " or " + kIndexFile);
  }
  return store;
}

WeightStore WeightStore::of_gguf(std::string_view bytes, const std::string& name) {
  WeightStore store;
  store.folder_ = name;
  GgufContent content = parse_gguf(bytes, name);
  store.add(nullptr, std::move(content.entries));
  store.gguf_ = std::make_unique<GgufMetadata>(std::move(content.metadata));
  return store;
}

void WeightStore::add_file(const std::string& path) {
  files_.push_back(std::make_unique<MappedFile>(path));
  const MappedFile* file = files_.back().get();
  add(file, parse_safetensors(file->bytes(), path).entries);
}

GgufMetadata WeightStore::add_gguf(const std::string& path) {
  files_.push_back(std::make_unique<MappedFile>(path));
  const MappedFile* file = files_.back().get();
  GgufContent content = parse_gguf(file->bytes(), path);
  add(file, std::move(content.entries));
  return std::move(content.metadata);
}

void WeightStore::open_gguf(const std::string& path) {
  gguf_ = std::make_unique<GgufMetadata>(add_gguf(path));
  const int64_t count = count_gguf_parts(*gguf_);
  if (count == 1) return;
  for (int64_t index = 2; index <= count; ++index) {
    const std::string part = gguf_part_path(path, index, count);
    if (!file_exists(part)) {
      throw Error(ErrorCode::kNotFound, fmt::format("part {} of {} of the model is missing", index, count),
                  {.file = path, .expected = part});
    }
    check_gguf_part(add_gguf(part), index, count);
  }
  check_gguf_tensor_count(*gguf_, static_cast<int64_t>(places_.size()));
}

void WeightStore::add(const MappedFile* file, std::map<std::string, StoredTensor> entries) {
  for (auto& [name, tensor] : entries) {
    const auto [it, inserted] = places_.try_emplace(name);
    if (!inserted) {
      throw Error(ErrorCode::kBadFile, "a tensor in two shards",
                  {.file = tensor.file, .place = name, .got = "also in " + it->second.tensor.file});
    }
    it->second = Place{file, std::move(tensor)};
  }
}

void WeightStore::open_shards(const std::string& index_path) {
  const auto index = read_index(index_path);
  std::map<std::string, std::string> paths;  // by the shard's name
  for (const auto& [tensor, shard] : index) {
    if (paths.count(shard) != 0) continue;
    const std::string path = shard_path(folder_, shard, index_path);
    add_file(path);
    paths.emplace(shard, path);
  }
  // Tensors that are in no shard or in another one, as when an index was not rewritten: no name is in two
  // shards, so there is no doubt which tensor it is.
  for (const auto& [tensor, shard] : index) {
    const auto it = places_.find(tensor);
    if (it == places_.end() || it->second.file->path() != paths.at(shard)) stale_.push_back(tensor);
  }
}

void WeightStore::fail_missing(const std::string& name) const {
  refuse_foreign_format(name, "");
  // The names come from an untrusted file: the search is bounded.
  std::vector<std::string> candidates;
  for (const auto& [known, place] : places_) {
    if (known.size() <= 256 && candidates.size() < 20'000) candidates.push_back(known);
  }
  const std::string nearest = nearest_name(name, candidates);
  const std::string like = candidates.empty() ? "" : ", such as " + candidates.front();
  throw Error(ErrorCode::kNotFound, "tensor is missing",
              {.file = folder_,
               .place = name,
               .hint = nearest.empty() ? fmt::format("the checkpoint has {} tensors{}", places_.size(), like)
                                       : "the nearest name is " + nearest});
}

void WeightStore::check_shape(const StoredTensor& tensor, const std::vector<int64_t>& shape) const {
  if (tensor.shape == shape) return;
  throw Error(ErrorCode::kBadFile,
              fmt::format("the tensor's shape contradicts {}", gguf_ ? "the metadata" : "config.json"),
              {.file = tensor.file,
               .place = tensor.name,
               .expected = fmt::format("[{}]", fmt::join(shape, ", ")),
               .got = fmt::format("[{}]", fmt::join(tensor.shape, ", "))});
}

void WeightStore::refuse_foreign_format(const std::string& name, const std::string& got) const {
  const std::optional<std::string> format = foreign_format(names());
  if (!format) return;
  throw Error(ErrorCode::kUnsupported,
              fmt::format("the weights are stored in a format that is not read: {}", *format),
              {.file = folder_,
               .place = name,
               .expected = "weights in F32, F16 or BF16",
               .got = got.empty() ? "no such tensor" : got,
               .hint = kForeignRemedy});
}

void WeightStore::fail_dtype(const std::string& name, const std::string& expected) const {
  const StoredTensor& t = tensor(name);
  refuse_foreign_format(name, t.dtype);
  throw Error(ErrorCode::kUnsupported, "wrong dtype",
              {.file = t.file, .place = name, .expected = expected, .got = t.dtype});
}

TensorView WeightStore::take_unaligned(const std::string& name, const std::vector<int64_t>& shape) {
  const StoredTensor& stored = find(name);
  if (!stored.type || is_block_type(*stored.type)) fail_dtype(name, "F32, F16, BF16 or F64");
  check_shape(stored, shape);
  used_[name] = stored.dtype;
  return {*stored.type, shape, stored.data};
}

TensorView WeightStore::take(const std::string& name, const std::vector<int64_t>& shape) {
  TensorView view = take_unaligned(name, shape);
  if (!view.is_aligned()) {
    const int64_t bytes = tensor(name).bytes;
    copies_.emplace_back(bytes, "an unaligned tensor");
    std::memcpy(copies_.back().data(), view.data, static_cast<size_t>(bytes));
    view.data = copies_.back().data();
  }
  return view;
}

const StoredTensor& WeightStore::take_stored(const std::string& name, const std::vector<int64_t>& shape) {
  const StoredTensor& stored = find(name);
  if (!stored.type) {
    fail_dtype(name, gguf_ ? "F32, F16, BF16, F64, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K to Q6_K or IQ4_NL"
                           : "F32, F16, BF16 or F64");
  }
  check_shape(stored, shape);
  used_[name] = stored.dtype;
  return stored;
}

const void* WeightStore::take_blocks(const std::string& name, DType type, int64_t n_out, int64_t n_in) {
  const StoredTensor& stored = find(name);
  std::string blocks = dtype_name(type);
  if (gguf_) {
    if (stored.type != type) fail_dtype(name, fmt::format("{} blocks", blocks));
    return take_stored(name, {n_out, n_in}).data;
  }
  if (stored.dtype != "U8") fail_dtype(name, fmt::format("U8 ({} blocks)", blocks));
  check_shape(stored, {n_out, row_bytes(type, n_in)});
  for (char& c : blocks) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  used_[name] = blocks;
  return stored.data;
}

void WeightStore::ignore(const std::string& name) {
  if (has(name)) used_.emplace(name, tensor(name).dtype);
}

void WeightStore::forget(const std::string& name) const {
  SEPLLM_CHECK(has(name));
  const Place& place = places_.at(name);
  if (place.file == nullptr) return;
  place.file->forget({place.tensor.data, static_cast<size_t>(place.tensor.bytes)});
}

const StoredTensor& WeightStore::tensor(const std::string& name) const {
  SEPLLM_CHECK(has(name));
  return places_.at(name).tensor;
}

const StoredTensor& WeightStore::find(const std::string& name) const {
  const auto it = places_.find(name);
  if (it == places_.end()) fail_missing(name);
  return it->second.tensor;
}

std::vector<std::string> WeightStore::names() const {
  std::vector<std::string> out;
  out.reserve(places_.size());
  for (const auto& [name, place] : places_) out.push_back(name);
  return out;
}

std::vector<std::string> WeightStore::unused_names() const {
  std::vector<std::string> out;
  for (const auto& [name, place] : places_) {
    if (used_.count(name) == 0) out.push_back(name);
  }
  return out;
}

int64_t WeightStore::total_bytes() const {
  int64_t total = 0;
  for (const auto& [name, place] : places_) total += place.tensor.bytes;
  return total;
}

int64_t WeightStore::copied_bytes() const {
  int64_t total = 0;
  for (const Buffer& copy : copies_) total += copy.bytes();
  return total;
}

std::map<std::string, int64_t> WeightStore::dtype_counts() const {
  std::map<std::string, int64_t> counts;
  for (const auto& [name, place] : places_) {
    const auto it = used_.find(name);
    ++counts[it == used_.end() ? place.tensor.dtype : it->second];
  }
  return counts;
}

}  // namespace sepllm
