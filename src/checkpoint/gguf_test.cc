#include "checkpoint/gguf.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cctype>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "checkpoint/gguf_tensor_type.h"
#include "tests/support/expect_error.h"
#include "tests/support/gguf_bytes.h"
#include "tests/support/support.h"

namespace sepllm {
namespace {

using test::expect_error;
using test::gguf_array;
using test::gguf_string;
using test::GgufBytes;
using test::raw_bytes;

void expect_refused_gguf(const GgufBytes& file, const std::vector<std::string>& parts,
                         ErrorCode code = ErrorCode::kBadFile) {
  const std::string bytes = file.bytes();
  std::vector<std::string> all = parts;
  all.emplace_back("f.gguf");
  expect_error([&] { parse_gguf(bytes, "f.gguf"); }, code, all);
}

Json json_of(const GgufValue& value) {
  if (value.type == GgufType::kArray) {
    Json list = Json::array();
    for_elements(value, [&](const GgufValue& element) { list.push_back(json_of(element)); });
    return list;
  }
  if (const auto text = value.text()) return std::string(*text);
  if (const auto flag = value.boolean()) return *flag;
  if (const auto integer = value.integer()) return *integer;
  if (value.type == GgufType::kU64) {  // beyond int64
    uint64_t number = 0;
    std::memcpy(&number, value.bytes.data(), sizeof number);
    return number;
  }
  return value.number().value_or(-1);
}

std::string name_in_package(GgufType type) {
  const std::string name = gguf_type_name(type);
  if (name == "bool" || name == "string" || name == "array") {
    std::string upper = name;
    for (char& c : upper) c = static_cast<char>(c - 'a' + 'A');
    return upper;
  }
  return (name[0] == 'u' ? "UINT" : name[0] == 'i' ? "INT" : "FLOAT") + name.substr(1);
}

// tests/golden/gguf: files that the gguf package wrote, and what it reads there.
TEST(Gguf, ReadsWhatTheGgufPackageReads) {
  const std::string folder = std::string(SEPLLM_SOURCE_DIR) + "/tests/golden/gguf/";
  const Json expected = read_json(folder + "expected.json", uint64_t{1} << 20);
  const std::string bytes = read_file(folder + "types.gguf");
  const GgufContent content = parse_gguf(bytes, "types.gguf");
  EXPECT_EQ(content.version, 3U);
  EXPECT_EQ(content.alignment, expected["alignment"].get<uint64_t>());

  EXPECT_EQ(content.metadata.values().size(), expected["metadata"].size());
  for (const auto& [key, entry] : expected["metadata"].items()) {
    ASSERT_TRUE(content.metadata.has(key)) << key;
    const GgufValue& value = content.metadata.at(key);
    EXPECT_EQ(name_in_package(value.type), entry["types"][0].get<std::string>()) << key;
    if (entry["types"].size() > 1) {
      EXPECT_EQ(name_in_package(value.element_type), entry["types"][1].get<std::string>()) << key;
    }
    EXPECT_EQ(json_of(value), entry["value"]) << key;
  }

  EXPECT_EQ(content.entries.size(), expected["tensors"].size());
  for (const auto& [name, entry] : expected["tensors"].items()) {
    ASSERT_EQ(content.entries.count(name), 1U) << name;
    const StoredTensor& tensor = content.entries.at(name);
    EXPECT_EQ(tensor.name, name);
    EXPECT_EQ(tensor.file, "types.gguf");
    EXPECT_EQ(Json(tensor.shape), entry["shape"]) << name;
    EXPECT_EQ(tensor.dtype, entry["type"].get<std::string>()) << name;
    EXPECT_EQ(tensor.bytes, entry["bytes"].get<int64_t>()) << name;
    EXPECT_EQ(tensor.data - bytes.data(), entry["offset"].get<int64_t>()) << name;
    EXPECT_EQ(tensor.type.has_value(), name != "ints.i32") << name;
  }
}

TEST(Gguf, TypedAccessToMetadata) {
  GgufBytes file = test::small_gguf();
  file.key("t.large", GgufType::kU64, raw_bytes(UINT64_MAX));
  file.key("t.infinite", GgufType::kF32, raw_bytes(1e30F * 1e30F));
  const std::string bytes = file.bytes();
  const GgufContent content = parse_gguf(bytes, "f.gguf");
  const GgufMetadata& m = content.metadata;
  EXPECT_EQ(m.string("general.architecture"), "llama");
  EXPECT_EQ(m.string_or("none", "x"), "x");
  EXPECT_EQ(m.integer("t.u8", 0, 255), 200);
  EXPECT_EQ(m.integer("t.i16", -10, 10), -3);
  EXPECT_EQ(m.integer_or("t.i64", 0, -10, 10), -5);
  EXPECT_EQ(m.integer_or("none", 7, 0, 10), 7);
  EXPECT_EQ(m.number("t.f32"), 0.5);
  EXPECT_EQ(m.number_or("t.f64", 1), 0.25);
  EXPECT_EQ(m.number("t.u8"), 200);
  EXPECT_TRUE(m.boolean_or("t.bool", false));
  EXPECT_TRUE(m.boolean_or("none", true));
  EXPECT_EQ(m.strings("t.strings", 2), (std::vector<std::string_view>{"a", ""}));
  EXPECT_EQ(json_of(m.at("t.nested")), Json::parse("[[1, 2], [false]]"));

  const auto refused = [&](const auto& call, ErrorCode code, const std::vector<std::string>& parts) {
    expect_error([&] { call(); }, code, parts);
  };
  refused([&] { m.string("none"); }, ErrorCode::kNotFound, {"f.gguf", "none", "lack"});
  refused([&] { m.string("t.u8"); }, ErrorCode::kBadFile, {"t.u8", "a string", "200 (u8)"});
  refused([&] { m.integer("t.u8", 0, 100); }, ErrorCode::kBadFile, {"t.u8", "0 to 100", "200"});
  refused([&] { m.integer("t.large", 0, INT64_MAX); }, ErrorCode::kBadFile, {"t.large", "u64"});
  refused([&] { m.integer("t.f32", 0, 100); }, ErrorCode::kBadFile, {"t.f32", "f32"});
  refused([&] { m.number("t.infinite"); }, ErrorCode::kBadFile, {"t.infinite", "finite"});
  refused([&] { m.boolean_or("t.u8", true); }, ErrorCode::kBadFile, {"t.u8", "a bool"});
  refused([&] { m.strings("t.nested", 2); }, ErrorCode::kBadFile, {"t.nested", "strings", "2 array"});
  refused([&] { m.strings("t.strings", 1); }, ErrorCode::kBadFile, {"t.strings", "at most 1", "2"});
  refused([&] { m.integers("t.strings", 9, 0, 9); }, ErrorCode::kBadFile, {"t.strings", "string"});
  refused([&] { m.floats("t.f32", 9); }, ErrorCode::kBadFile, {"t.f32", "an array"});
}

TEST(Gguf, VersionTwoIsTheSame) {
  GgufBytes file = test::small_gguf();
  file.version = 2;
  const std::string bytes = file.bytes();
  const GgufContent content = parse_gguf(bytes, "f.gguf");
  EXPECT_EQ(content.version, 2U);
  EXPECT_EQ(content.entries.at("matrix").shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(content.entries.at("blocks").type, DType::kQ8_0);
}

TEST(Gguf, OtherVersionsAndOrdersOfBytesAreErrors) {
  GgufBytes file = test::small_gguf();
  for (const uint32_t version : {0U, 1U, 4U, 0xFFFFFFFFU}) {
    file.version = version;
    expect_refused_gguf(file, {"version 2 or 3", fmt::format("got {}", version)}, ErrorCode::kUnsupported);
  }
  file.version = 0x03000000;
  expect_refused_gguf(file, {"big-endian"}, ErrorCode::kUnsupported);
  expect_error([] { parse_gguf("GGML....", "f.gguf"); }, ErrorCode::kBadFile, {"f.gguf", "not a GGUF file"});
  expect_error([] { parse_gguf("{\"a\": 1}", "f.gguf"); }, ErrorCode::kBadFile, {"this is a JSON file"});
}

TEST(Gguf, CountsAndLengthsBeyondTheFileAreErrors) {
  GgufBytes file = test::small_gguf();
  for (const uint64_t count : {uint64_t{1000}, UINT64_MAX}) {
    file.n_tensors = count;
    expect_refused_gguf(file, {"number of tensors", fmt::format("{}", count)});
  }
  file.n_tensors.reset();
  file.n_keys = UINT64_MAX;
  expect_refused_gguf(file, {"number of keys"});
  for (const uint64_t length : {uint64_t{1} << 40, UINT64_MAX}) {
    expect_refused_gguf(GgufBytes().key("k", GgufType::kString, raw_bytes(length)), {"k, byte", "truncated"});
    for (const GgufType type : {GgufType::kU8, GgufType::kF64, GgufType::kString, GgufType::kArray}) {
      expect_refused_gguf(GgufBytes().key("k", GgufType::kArray, gguf_array(type, length, "")),
                          {"k, byte", "truncated"});
    }
  }
}

TEST(Gguf, WrongKeysAndValuesAreErrors) {
  expect_refused_gguf(GgufBytes().u32("k", 1).u32("k", 2), {"k, byte", "twice"});
  expect_refused_gguf(GgufBytes().u32("", 1), {"key 0", "a key is empty"});
  expect_refused_gguf(GgufBytes().u32("k\xff", 1), {"key 0", "ASCII"});
  expect_refused_gguf(GgufBytes().u32(std::string(65'536, 'k'), 1), {"key 0", "65535"});
  GgufBytes file;
  file.keys.push_back({"k", 13, "value"});
  expect_refused_gguf(file, {"k, byte", "type of a value", "13"});
  expect_refused_gguf(GgufBytes().key("k", GgufType::kBool, "\2"), {"k, byte", "wrong bool", "2"});
  expect_refused_gguf(GgufBytes().key("k", GgufType::kArray, gguf_array(GgufType::kBool, 2, "\1\3")),
                      {"k, byte", "wrong bool", "3"});
  expect_refused_gguf(GgufBytes().key("k", GgufType::kArray, gguf_array(static_cast<GgufType>(99), 0, "")),
                      {"k, byte", "elements", "99"});
  std::string nested = gguf_array(GgufType::kU8, 0, "");
  for (int depth = 0; depth < 4; ++depth) nested = gguf_array(GgufType::kArray, 1, nested);
  expect_refused_gguf(GgufBytes().key("k", GgufType::kArray, nested), {"k, byte", "nested too deeply"});
}

TEST(Gguf, WrongAlignmentsAreErrors) {
  for (const uint32_t alignment : {0U, 4U, 13U, 48U, 0xFFFFFFFFU}) {
    expect_refused_gguf(GgufBytes().u32("general.alignment", alignment), {"general.alignment"});
  }
  expect_refused_gguf(GgufBytes().text("general.alignment", "32"), {"general.alignment", "string"});
  GgufBytes file = test::small_gguf();
  file.alignment = 8;
  const std::string bytes = file.u32("general.alignment", 8).bytes();
  EXPECT_EQ(parse_gguf(bytes, "f").entries.size(), 4U);
}

TEST(Gguf, WrongTensorsAreErrors) {
  const std::string data(64, '\0');
  const auto refused = [&](const std::vector<uint64_t>& sizes, uint32_t type,
                           const std::vector<std::string>& parts) {
    std::vector<std::string> all = parts;
    all.emplace_back("t");
    expect_refused_gguf(GgufBytes().tensor("t", sizes, type, data), all);
  };
  refused({}, 0, {"dimensions", "1 to 4", "0"});
  refused({1, 1, 1, 1, 1}, 0, {"dimensions", "5"});
  refused({4, 0}, 0, {"size of a dimension", "0"});
  refused({UINT64_MAX}, 0, {"size of a dimension"});
  refused({uint64_t{1} << 62, 4}, 0, {"overflows"});
  refused({uint64_t{1} << 32, uint64_t{1} << 32}, 1, {"overflows"});
  refused({uint64_t{1} << 60}, 0, {"outside the file"});
  refused({17}, 0, {"outside the file", "68 bytes", "64"});
  refused({33}, 8, {"whole blocks of Q8_0", "multiple of 32", "33"});
  refused({128}, 12, {"whole blocks of Q4_K", "multiple of 256"});
  for (const uint32_t type : {4U, 9U, 15U, 36U, 42U, 0xFFFFFFFFU})
    refused({16}, type, {"unknown type", fmt::format("{}", type)});

  expect_refused_gguf(GgufBytes().tensor("t", {2}, 0, data).tensor("t", {2}, 0, data), {"t: ", "twice"});
  expect_refused_gguf(GgufBytes().tensor(std::string(65, 't'), {2}, 0, data), {"tensor 0", "64"});
  expect_refused_gguf(GgufBytes().tensor("", {2}, 0, data), {"tensor 0", "empty"});
  GgufBytes file;
  file.tensor("a", {16}, 0, data).tensor("b", {16}, 0, data);
  file.tensors[1].offset = 32;
  expect_refused_gguf(file, {"b: ", "overlaps that of a", "64", "32"});
  file.tensors[1].offset = 65;
  expect_refused_gguf(file, {"b, byte", "multiple of 32", "65"});
  file.tensors[1].offset = UINT64_MAX - 31;
  expect_refused_gguf(file, {"b: ", "outside the file"});
}

TEST(Gguf, EveryTruncationIsAnError) {
  const std::string bytes = test::small_gguf().bytes();
  const size_t end = bytes.size() - 29;  // "ints" has 3 bytes, and 29 of padding that a file may lack
  for (size_t n = 0; n < bytes.size(); ++n) {
    const std::vector<char> part(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(n));
    const std::string_view view(part.data(), part.size());
    if (n >= end) {
      EXPECT_EQ(parse_gguf(view, "f.gguf").entries.size(), 4U) << n;
    } else {
      EXPECT_THROW(parse_gguf(view, "f.gguf"), Error) << n;
    }
  }
}

// Reads all that the file is said to hold: a sanitizer sees what lies outside.
TEST(Gguf, EveryChangedByteIsAnErrorOrAFile) {
  const std::string bytes = test::small_gguf().bytes();
  int n_read = 0;
  for (size_t at = 0; at < bytes.size(); ++at) {
    for (const int flip : {1, 2, 4, 8, 16, 32, 64, 128, 255}) {
      std::vector<char> changed(bytes.begin(), bytes.end());
      changed[at] = static_cast<char>(changed[at] ^ flip);
      try {
        const GgufContent content = parse_gguf({changed.data(), changed.size()}, "f.gguf");
        uint64_t total = 0;
        for (const auto& [name, tensor] : content.entries) total += static_cast<uint64_t>(tensor.bytes);
        for (const auto& [key, value] : content.metadata.values()) json_of(value);
        ASSERT_LE(total, changed.size());
        ++n_read;
      } catch (const Error&) {
      }
    }
  }
  EXPECT_GT(n_read, 100);
}

TEST(Gguf, TypesHaveTheSizesOfOurs) {
  for (uint32_t number = 0; number < 64; ++number) {
    const GgufTensorType* type = gguf_tensor_type(number);
    if (type == nullptr || !type->type) continue;
    std::string name = type->name;
    for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    EXPECT_EQ(name, dtype_name(*type->type));
    EXPECT_EQ(type->elements, block_elements(*type->type)) << name;
    EXPECT_EQ(type->bytes, block_bytes(*type->type)) << name;
  }
}

}  // namespace
}  // namespace sepllm
