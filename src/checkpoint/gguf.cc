#include "checkpoint/gguf.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file_kind.h"
#include "checkpoint/gguf_tensor_type.h"

namespace sepllm {
namespace {

constexpr uint32_t kOldestVersion = 2, kNewestVersion = 3;
constexpr uint64_t kDefaultAlignment = 32, kLeastAlignment = 8, kLargestAlignment = uint64_t{1} << 30;
constexpr uint64_t kMostKeyBytes = 65'535, kMostNameBytes = 64;  // of the format
constexpr uint32_t kMostDimensions = 4;                          // of the format
// Far more than any model has; what a key or a tensor takes in memory is a few times what it takes in a file.
constexpr uint64_t kMostKeys = 100'000, kMostTensors = 1'000'000;
constexpr uint64_t kLeastKeyBytes = 8 + 1 + 4 + 1, kLeastTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;
constexpr const char* kAlignmentKey = "general.alignment";

// "GGUF" and a version that is read.
uint32_t read_version(std::string_view bytes, GgufReader* reader, const std::string& file) {
  if (bytes.size() < 4 || bytes.substr(0, 4) != "GGUF") {
    refuse_other_kind(bytes.substr(0, kFileKindBytes), file, "a GGUF file", {FileKind::kGguf});
    reader->fail("not a GGUF file", "\"GGUF\" where it begins");
  }
  reader->take(4, "the magic number");
  const auto version = reader->number<uint32_t>("the version");
  if (version >= kOldestVersion && version <= kNewestVersion) return version;
  const std::string expected = fmt::format("version {} or {}", kOldestVersion, kNewestVersion);
  const ErrorDetail detail{.file = file, .place = "version", .expected = expected};
  if (version != 0 && (version & 0xFFFF) == 0) {  // as the gguf package tells it
    ErrorDetail other = detail;
    other.expected = "a little-endian file";
    other.got = fmt::format("version bytes {:08x}", version);
    throw Error(ErrorCode::kUnsupported, "a GGUF file for big-endian machines", other);
  }
  ErrorDetail other = detail;
  other.got = fmt::format("{}", version);
  if (version < kOldestVersion) other.hint = "convert the model again with a newer llama.cpp";
  throw Error(ErrorCode::kUnsupported, "a version of GGUF that is not read", other);
}

// A count of things of at least `least` bytes each.
uint64_t read_count(GgufReader* reader, const char* what, uint64_t least, uint64_t most) {
  const auto count = reader->number<uint64_t>(what);
  const uint64_t fit = std::min(most, reader->left() / least);
  if (count > fit) {
    reader->fail(fmt::format("wrong {}", what), fmt::format("at most {}", fit), fmt::format("{}", count));
  }
  return count;
}

bool is_printable_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < 0x7F; });
}

// The name of a key or tensor.
std::string read_name(GgufReader* reader, const char* what, uint64_t most) {
  const std::string name(reader->string(what, most));
  if (name.empty()) reader->fail(fmt::format("{} is empty", what));
  if (!is_printable_ascii(name)) reader->fail(fmt::format("wrong {}", what), "printable ASCII", name);
  return name;
}

void read_keys(GgufReader* reader, uint64_t count, GgufMetadata* out) {
  for (uint64_t k = 0; k < count; ++k) {
    reader->set_place(fmt::format("key {}", k));
    const std::string key = read_name(reader, "a key", kMostKeyBytes);
    reader->set_place(key);
    const GgufType type = reader->type("type of a value");
    if (!out->add(key, reader->value(type))) reader->fail("the key is there twice");
  }
}

uint64_t read_alignment(const GgufMetadata& metadata) {
  if (!metadata.has(kAlignmentKey)) return kDefaultAlignment;
  const auto value = static_cast<uint64_t>(metadata.integer(kAlignmentKey, 0, kLargestAlignment));
  if (value < kLeastAlignment || !std::has_single_bit(value)) {
    metadata.fail(kAlignmentKey, "wrong alignment",
                  fmt::format("a power of two, at least {}", kLeastAlignment), fmt::format("{}", value));
  }
  return value;
}

// Sizes as elsewhere, those of a row last.
std::vector<int64_t> read_shape(GgufReader* reader) {
  const auto n = reader->number<uint32_t>("the number of dimensions");
  if (n == 0 || n > kMostDimensions) {
    reader->fail("wrong number of dimensions", fmt::format("1 to {}", kMostDimensions), fmt::format("{}", n));
  }
  std::vector<int64_t> shape(n);
  for (uint32_t d = 0; d < n; ++d) {
    const auto size = reader->number<uint64_t>("a size");
    if (size == 0 || size > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
      reader->fail("wrong size of a dimension", "1 to 2^63 - 1", fmt::format("{}", size));
    shape[n - 1 - d] = static_cast<int64_t>(size);
  }
  return shape;
}

// Of a tensor of this shape, whose rows are whole blocks.
int64_t tensor_bytes(const GgufTensorType& type, const std::vector<int64_t>& shape,
                     const GgufReader& reader) {
  if (shape.back() % type.elements != 0) {
    reader.fail(fmt::format("rows that are no whole blocks of {}", type.name),
                fmt::format("a multiple of {}", type.elements), fmt::format("{}", shape.back()));
  }
  int64_t bytes = shape.back() / type.elements;
  bool overflows = __builtin_mul_overflow(bytes, type.bytes, &bytes);
  for (size_t d = 0; d + 1 < shape.size(); ++d)
    overflows = __builtin_mul_overflow(bytes, shape[d], &bytes) || overflows;
  if (overflows)
    reader.fail("the size overflows", "less than 2^63 bytes", fmt::format("[{}]", fmt::join(shape, ", ")));
  return bytes;
}

// A tensor whose data is still to be found.
struct PlacedTensor {
  StoredTensor tensor;
  uint64_t offset;  // from the beginning of the data
};

PlacedTensor read_tensor(GgufReader* reader, uint64_t index, uint64_t alignment, const std::string& file) {
  reader->set_place(fmt::format("tensor {}", index));
  PlacedTensor out{{.name = read_name(reader, "a tensor's name", kMostNameBytes), .file = file}, 0};
  StoredTensor& tensor = out.tensor;
  reader->set_place(tensor.name);
  tensor.shape = read_shape(reader);
  const auto number = reader->number<uint32_t>("the type");
  const GgufTensorType* type = gguf_tensor_type(number);
  if (type == nullptr) reader->fail("unknown type of a tensor", "", fmt::format("{}", number));
  tensor.dtype = type->name;
  tensor.type = type->type;
  tensor.bytes = tensor_bytes(*type, tensor.shape, *reader);
  out.offset = reader->number<uint64_t>("the offset");
  if (out.offset % alignment != 0) {
    reader->fail("wrong offset of the data", fmt::format("a multiple of {}", alignment),
                 fmt::format("{}", out.offset));
  }
  return out;
}

// Points the tensors to their data: within the file, no byte in two of them.
void find_data(std::string_view data, std::vector<PlacedTensor>* tensors) {
  std::vector<const PlacedTensor*> order;
  for (PlacedTensor& placed : *tensors) {
    StoredTensor& t = placed.tensor;
    const auto bytes = static_cast<uint64_t>(t.bytes);
    if (placed.offset > data.size() || bytes > data.size() - placed.offset) {
      throw Error(ErrorCode::kBadFile, "tensor data outside the file (truncated?)",
                  {.file = t.file,
                   .place = t.name,
                   .expected = fmt::format("{} bytes from offset {}", bytes, placed.offset),
                   .got = fmt::format("{} bytes of data", data.size())});
    }
    t.data = data.data() + placed.offset;
    order.push_back(&placed);
  }
  std::sort(order.begin(), order.end(),
            [](const PlacedTensor* a, const PlacedTensor* b) { return a->offset < b->offset; });
  for (size_t k = 1; k < order.size(); ++k) {
    const PlacedTensor& before = *order[k - 1];
    const uint64_t end = before.offset + static_cast<uint64_t>(before.tensor.bytes);
    if (order[k]->offset >= end) continue;
    throw Error(ErrorCode::kBadFile, fmt::format("the data overlaps that of {}", before.tensor.name),
                {.file = before.tensor.file,
                 .place = order[k]->tensor.name,
                 .expected = fmt::format("an offset of at least {}", end),
                 .got = fmt::format("{}", order[k]->offset)});
  }
}

}  // namespace

GgufContent parse_gguf(std::string_view bytes, const std::string& file) {
  GgufReader reader(bytes, file);
  reader.set_place("header");
  GgufContent out{.version = read_version(bytes, &reader, file), .metadata = GgufMetadata(file)};
  const uint64_t n_tensors = read_count(&reader, "number of tensors", kLeastTensorBytes, kMostTensors);
  const uint64_t n_keys = read_count(&reader, "number of keys", kLeastKeyBytes, kMostKeys);
  read_keys(&reader, n_keys, &out.metadata);
  out.alignment = read_alignment(out.metadata);

  std::vector<PlacedTensor> tensors;
  for (uint64_t k = 0; k < n_tensors; ++k) {
    tensors.push_back(read_tensor(&reader, k, out.alignment, file));
  }
  // Without tensors the file may end here.
  const uint64_t begin = (reader.offset() + out.alignment - 1) / out.alignment * out.alignment;
  find_data(bytes.substr(std::min<uint64_t>(begin, bytes.size())), &tensors);
  for (PlacedTensor& placed : tensors) {
    const std::string name = placed.tensor.name;
    if (out.entries.emplace(name, std::move(placed.tensor)).second) continue;
    throw Error(ErrorCode::kBadFile, "the tensor is there twice", {.file = file, .place = name});
  }
  return out;
}

bool is_gguf_file(const std::string& path) {
  return is_regular_file(path) && file_kind_of(path) == FileKind::kGguf;
}

GgufFile::GgufFile(const std::string& path) : file_(path), content_(parse_gguf(file_.bytes(), path)) {}

}  // namespace sepllm
