#include "checkpoint/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/error.h"
#include "base/file_kind.h"
#include "base/json.h"

namespace sepllm {
namespace {

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the limit of the format's reference reader
constexpr size_t kLengthBytes = 8;
constexpr size_t kDataAlign = 64;
constexpr const char* kMetadataKey = "__metadata__";

struct DTypeBits {
  const char* name;
  int bits;
};
constexpr DTypeBits kDTypes[] = {
    {"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},   {"I8", 8},    {"F8_E5M2", 8},
    {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"I16", 16},    {"U16", 16},    {"F16", 16}, {"BF16", 16}, {"I32", 32},
    {"U32", 32},    {"F32", 32},    {"F64", 64},    {"I64", 64},    {"U64", 64}, {"C64", 64},
};

std::optional<int> dtype_bits(const std::string& name) {
  for (const DTypeBits& d : kDTypes) {
    if (name == d.name) return d.bits;
  }
  return std::nullopt;
}

// Bytes of a tensor; nullopt if the product overflows or is not a whole number of bytes.
std::optional<int64_t> byte_count(int bits, const std::vector<int64_t>& shape) {
  int64_t n = bits;
  for (const int64_t d : shape) {
    if (__builtin_mul_overflow(n, d, &n)) return std::nullopt;
  }
  if (n % 8 != 0) return std::nullopt;
  return n / 8;
}

// For a header that cannot be valid: the file is of another kind, or damaged.
void refuse_other_than_safetensors(std::string_view bytes, const std::string& file) {
  const FileKind kind = file_kind(bytes.substr(0, kFileKindBytes));
  if (kind == FileKind::kZip || kind == FileKind::kPickle) {
    throw Error(ErrorCode::kBadFile, "this is " + file_kind_name(kind),
                {.file = file,
                 .expected = "weights in the safetensors format",
                 .hint = "if PyTorch wrote it (.bin, .pt): save the model again as safetensors"});
  }
  refuse_other_kind(bytes, file, "weights in the safetensors format", {FileKind::kSafetensors});
}

// Reports faults of one file, each with its place, what was expected and what was found.
class Faults {
 public:
  explicit Faults(const std::string& file) : file_(file) {}
  [[noreturn]] void fail(const std::string& place, const std::string& message,
                         const std::string& expected = "", const std::string& got = "") const {
    throw Error(ErrorCode::kBadFile, message,
                {.file = file_, .place = place, .expected = expected, .got = got});
  }
  const std::string& file() const { return file_; }

 private:
  const std::string& file_;
};

uint64_t read_u64(std::string_view bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < kLengthBytes; ++i) {
    value |= static_cast<uint64_t>(static_cast<unsigned char>(bytes[i])) << (8 * i);
  }
  return value;
}

std::string_view header_text(std::string_view bytes, const Faults& faults) {
  const bool is_header = bytes.size() > kLengthBytes && read_u64(bytes) <= bytes.size() - kLengthBytes &&
                         bytes[kLengthBytes] == '{';
  if (!is_header) refuse_other_than_safetensors(bytes, faults.file());
  if (bytes.size() < kLengthBytes) {
    faults.fail("", "not a safetensors file: too short", "at least 8 bytes",
                fmt::format("{} bytes", bytes.size()));
  }
  const uint64_t length = read_u64(bytes);
  if (length > kMaxHeaderBytes) {
    faults.fail("header length", "not a safetensors file, or a damaged one",
                fmt::format("at most {} bytes", kMaxHeaderBytes), fmt::format("{}", length));
  }
  if (length > bytes.size() - kLengthBytes) {
    faults.fail("header length", "the header is longer than the file (truncated?)",
                fmt::format("at most {} bytes", bytes.size() - kLengthBytes), fmt::format("{}", length));
  }
  const std::string_view text = bytes.substr(kLengthBytes, static_cast<size_t>(length));
  if (text.empty() || text.front() != '{') faults.fail("byte 8", "the header does not start with '{'");
  return text;
}

int64_t non_negative(const Json& value, const std::string& place, const char* what, const Faults& faults) {
  // The parser marks every integer without a minus sign as unsigned.
  if (value.is_number_unsigned() &&
      value.get<uint64_t>() <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    return static_cast<int64_t>(value.get<uint64_t>());
  }
  faults.fail(place, fmt::format("wrong {}", what), "an integer of 0 or more", json_text(value));
}

const Json& member(const Json& info, const std::string& tensor, const char* key, const Faults& faults) {
  const auto it = info.find(key);
  if (it == info.end()) faults.fail(tensor, fmt::format("the header lacks \"{}\"", key));
  return *it;
}

struct Range {
  int64_t begin;
  int64_t end;
};

Range read_offsets(const Json& info, const std::string& name, int64_t data_bytes, const Faults& faults) {
  const Json& offsets = member(info, name, "data_offsets", faults);
  if (!offsets.is_array() || offsets.size() != 2) {
    faults.fail(name, "wrong data_offsets", "[begin, end]", json_text(offsets).substr(0, 60));
  }
  const Range range{non_negative(offsets[0], name, "data_offsets", faults),
                    non_negative(offsets[1], name, "data_offsets", faults)};
  if (range.begin > range.end || range.end > data_bytes) {
    faults.fail(name, "tensor data outside the file (truncated?)",
                fmt::format("offsets within 0 to {}", data_bytes),
                fmt::format("{} to {}", range.begin, range.end));
  }
  return range;
}

// Our type for a dtype of the format.
std::optional<DType> float_type(const std::string& dtype) {
  if (dtype == "F32") return DType::kF32;
  if (dtype == "F16") return DType::kF16;
  if (dtype == "BF16") return DType::kBF16;
  if (dtype == "F64") return DType::kF64;
  return std::nullopt;
}

StoredTensor read_entry(const std::string& name, const Json& info, std::string_view data, Range* range,
                        const Faults& faults) {
  if (!info.is_object()) faults.fail(name, "wrong header entry", "a JSON object");
  StoredTensor entry{.name = name, .file = faults.file()};
  const Json& dtype = member(info, name, "dtype", faults);
  if (!dtype.is_string()) faults.fail(name, "wrong dtype", "a string");
  entry.dtype = dtype.get<std::string>();
  entry.type = float_type(entry.dtype);
  const auto bits = dtype_bits(entry.dtype);
  if (!bits) faults.fail(name, "unknown dtype", "a dtype of the safetensors format", entry.dtype);

  const Json& shape = member(info, name, "shape", faults);
  if (!shape.is_array()) faults.fail(name, "wrong shape", "a list of integers");
  for (const Json& d : shape) entry.shape.push_back(non_negative(d, name, "shape", faults));
  const auto bytes = byte_count(*bits, entry.shape);
  if (!bytes) faults.fail(name, "the shape's size overflows or is not a whole number of bytes");

  *range = read_offsets(info, name, static_cast<int64_t>(data.size()), faults);
  entry.bytes = range->end - range->begin;
  if (entry.bytes != *bytes) {
    faults.fail(name, "shape and data_offsets contradict each other",
                fmt::format("{} bytes by shape and dtype", *bytes), fmt::format("{}", entry.bytes));
  }
  entry.data = data.data() + range->begin;
  return entry;
}

void read_metadata(const Json& json, std::map<std::string, std::string>* out, const Faults& faults) {
  if (json.is_null()) return;  // some writers write null here, and the format's own reader accepts it
  if (!json.is_object()) faults.fail(kMetadataKey, "wrong type", "a JSON object of strings, or null");
  for (const auto& [key, value] : json.items()) {
    if (!value.is_string()) faults.fail(std::string(kMetadataKey) + "." + key, "wrong type", "a string");
    out->emplace(key, value.get<std::string>());
  }
}

struct Placed {
  Range range;
  const std::string* name;
};

// The tensors must cover the data exactly: no holes (hidden content), no overlaps, nothing after the last
// one.
void check_coverage(std::vector<Placed> placed, int64_t data_bytes, const Faults& faults) {
  std::sort(placed.begin(), placed.end(), [](const Placed& a, const Placed& b) {
    return a.range.begin != b.range.begin ? a.range.begin < b.range.begin : a.range.end < b.range.end;
  });
  int64_t at = 0;
  for (const Placed& p : placed) {
    if (p.range.begin != at) {
      faults.fail(*p.name, p.range.begin < at ? "tensors overlap" : "hole between tensors",
                  fmt::format("data from offset {}", at), fmt::format("{}", p.range.begin));
    }
    at = p.range.end;
  }
  if (at != data_bytes) {
    faults.fail("data", "the tensors do not cover the file",
                fmt::format("{} bytes of data, as the header says", at), fmt::format("{}", data_bytes));
  }
}

std::string header_json(const std::vector<SafetensorsTensor>& tensors,
                        const std::map<std::string, std::string>& metadata) {
  Json header = Json::object();
  if (!metadata.empty()) header[kMetadataKey] = metadata;
  int64_t at = 0;
  for (const SafetensorsTensor& t : tensors) {
    const auto bits = dtype_bits(t.dtype);
    SEPLLM_CHECK(bits && t.name != kMetadataKey && !header.contains(t.name));
    const auto bytes = byte_count(*bits, t.shape);
    SEPLLM_CHECK(bytes && *bytes >= 0);
    header[t.name] = {{"dtype", t.dtype}, {"shape", t.shape}, {"data_offsets", {at, at + *bytes}}};
    at += *bytes;
  }
  std::string text = json_text(header);
  while ((kLengthBytes + text.size()) % kDataAlign != 0) text += ' ';
  return text;
}

}  // namespace

SafetensorsContent parse_safetensors(std::string_view bytes, const std::string& file) {
  const Faults faults(file);
  const std::string_view text = header_text(bytes, faults);
  const std::string_view data = bytes.substr(kLengthBytes + text.size());
  const Json header = parse_json(text, file, {.refuse_duplicates = true});
  if (!header.is_object()) faults.fail("header", "wrong type", "a JSON object");

  SafetensorsContent content;
  std::vector<Placed> placed;
  for (const auto& [name, info] : header.items()) {
    if (name == kMetadataKey) {
      read_metadata(info, &content.metadata, faults);
      continue;
    }
    Range range{};
    const auto it = content.entries.emplace(name, read_entry(name, info, data, &range, faults)).first;
    placed.push_back({range, &it->first});
  }
  check_coverage(std::move(placed), static_cast<int64_t>(data.size()), faults);
  return content;
}

SafetensorsFile::SafetensorsFile(const std::string& path)
    : file_(path), content_(parse_safetensors(file_.bytes(), path)) {}

SafetensorsWriter::SafetensorsWriter(const std::string& path, std::vector<SafetensorsTensor> tensors,
                                     const std::map<std::string, std::string>& metadata)
    : file_(path), tensors_(std::move(tensors)) {
  std::stable_sort(tensors_.begin(), tensors_.end(),
                   [](const SafetensorsTensor& a, const SafetensorsTensor& b) {
                     return dtype_bits(a.dtype).value_or(0) > dtype_bits(b.dtype).value_or(0);
                   });
  const std::string header = header_json(tensors_, metadata);
  std::string length(kLengthBytes, '\0');
  for (size_t i = 0; i < kLengthBytes; ++i) length[i] = static_cast<char>((header.size() >> (8 * i)) & 0xFF);
  file_.write(length);
  file_.write(header);
}

void SafetensorsWriter::write(const void* data) {
  SEPLLM_CHECK(next_ < tensors_.size());
  const SafetensorsTensor& t = tensors_[next_++];
  const auto bytes = static_cast<size_t>(*byte_count(*dtype_bits(t.dtype), t.shape));
  if (bytes != 0) file_.write({static_cast<const char*>(data), bytes});
}

void SafetensorsWriter::commit() {
  SEPLLM_CHECK(next_ == tensors_.size());
  file_.commit();
}

void write_safetensors(const std::string& path, const std::vector<SafetensorsTensor>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  SafetensorsWriter writer(path, tensors, metadata);
  for (const SafetensorsTensor& t : writer.order()) writer.write(t.data);
  writer.commit();
}

}  // namespace sepllm
