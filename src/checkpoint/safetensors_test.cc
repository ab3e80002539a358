#include "checkpoint/safetensors.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "base/json.h"
#include "tests/support/expect_error.h"
#include "tests/support/support.h"

namespace sepllm {
namespace {

using test::expect_error;

std::string file_bytes(const std::string& header, const std::string& data) {
  std::string out(8, '\0');
  for (size_t i = 0; i < 8; ++i) out[i] = static_cast<char>((header.size() >> (8 * i)) & 0xFF);
  return out + header + data;
}

std::string one_tensor(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"t":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
}

void expect_refused(const std::string& bytes, const std::vector<std::string>& parts) {
  expect_error([&] { parse_safetensors(bytes, "f.safetensors"); }, ErrorCode::kBadFile, parts);
}

// A small file with everything that the format allows: several types, a scalar, an empty tensor, metadata.
std::string small_file() {
  const test::TemporaryFolder folder;
  const float values[6] = {1, 2, 3, 4, 5, 6};
  write_safetensors(folder.file("x"),
                    {{"half", "BF16", {3}, values},
                     {"matrix", "F32", {2, 3}, values},
                     {"scalar", "F32", {}, values},
                     {"empty", "F16", {0, 7}, nullptr},
                     {"bytes", "U8", {5}, values}},
                    {{"format", "pt"}});
  return read_file(folder.file("x"));
}

TEST(Safetensors, ReadsWhatItWrites) {
  const std::string bytes = small_file();
  const SafetensorsContent content = parse_safetensors(bytes, "x");
  ASSERT_EQ(content.entries.size(), 5U);
  EXPECT_EQ(content.metadata.at("format"), "pt");
  const StoredTensor& matrix = content.entries.at("matrix");
  EXPECT_EQ(matrix.shape, (std::vector<int64_t>{2, 3}));
  float last = 0;
  std::memcpy(&last, matrix.data + 20, 4);
  EXPECT_EQ(last, 6.0F);
  EXPECT_TRUE(content.entries.at("scalar").shape.empty());
  EXPECT_EQ(content.entries.at("scalar").bytes, 4);
  EXPECT_EQ(content.entries.at("empty").bytes, 0);
}

TEST(Safetensors, WritesTensorsAligned) {
  const std::string bytes = small_file();
  const SafetensorsContent content = parse_safetensors(bytes, "x");
  const auto offset = [&](const char* name) { return content.entries.at(name).data - bytes.data(); };
  EXPECT_EQ(offset("matrix") % 64, 0);
  EXPECT_EQ(offset("scalar") % 4, 0);
  EXPECT_EQ(offset("half") % 2, 0);
}

TEST(Safetensors, AcceptsTrailingSpacesAndAnEmptyList) {
  EXPECT_TRUE(parse_safetensors(file_bytes("{}      ", ""), "x").entries.empty());
}

TEST(Safetensors, RefusesLengthsBeyondTheFile) {
  expect_refused("", {"f.safetensors", "an empty file"});
  expect_refused("1234567", {"7 bytes"});
  expect_refused(file_bytes("{}", "").substr(0, 9), {"header length", "truncated"});
  std::string huge = file_bytes("{}", "");
  huge[7] = '\x7f';
  expect_refused(huge, {"header length", "100000000"});
  expect_refused(file_bytes("", ""), {"begins with zeros"});
  expect_refused(file_bytes("[]", ""), {"does not start with '{'"});
  expect_refused(file_bytes(" {}", ""), {"does not start with '{'"});
}

// For files that are not safetensors at all, the error says what they are.
TEST(Safetensors, FilesOfOtherKindsAreNamed) {
  const std::string pointer =
      "version https://git-lfs.github.com/spec/v1\noid sha256:" + std::string(64, 'a') + "\nsize 26112\n";
  expect_refused(pointer, {"Git LFS pointer", "safetensors", "git lfs pull"});
  expect_refused("<!DOCTYPE html>\n<html><head><title>Sign in</title>", {"HTML page", "/resolve/"});
  expect_refused("  <HTML lang=en>", {"HTML page"});
  expect_refused("<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code>", {"XML file", "/resolve/"});
  expect_refused("PK\3\4" + std::string(100, 'x'), {"ZIP archive", "PyTorch"});
  expect_refused("\x80\2" + std::string(100, 'x'), {"Python pickle", "PyTorch"});
  expect_refused(std::string("GGUF\3\0\0\0", 8) + std::string(100, 'x'), {"GGUF file"});
  expect_refused("\x1f\x8b\x08" + std::string(100, 'x'), {"packed by gzip"});
  expect_refused(R"({"error":"Repository not found"})", {"JSON file"});
  expect_refused(std::string(4096, '\0'), {"begins with zeros", "download did not finish"});
}

// A header whose length happens to look like another kind's mark is still a header.
TEST(Safetensors, AFileThatBeginsLikeAnotherKindIsRead) {
  for (const size_t length : {size_t{0x8b1f}, size_t{0x9d1f}, size_t{0xd8ff}}) {  // gzip, compress, (JPEG)
    std::string header = "{}";
    header.resize(length, ' ');
    EXPECT_TRUE(parse_safetensors(file_bytes(header, ""), "x").entries.empty());
  }
}

TEST(Safetensors, MetadataMayBeNull) {
  EXPECT_TRUE(parse_safetensors(file_bytes(R"({"__metadata__":null})", ""), "x").metadata.empty());
  const std::string tensor = one_tensor("F32", "[1]", "[0,4]");
  const std::string both = R"({"__metadata__":null,)" + tensor.substr(1);
  EXPECT_EQ(parse_safetensors(file_bytes(both, "1234"), "x").entries.size(), 1U);
  for (const char* bad : {"1", "\"a\"", "[]", "true", R"({"a":null})", R"({"a":{}})"}) {
    expect_refused(file_bytes(std::string(R"({"__metadata__":)") + bad + "}", ""), {"__metadata__"});
  }
}

TEST(Safetensors, RefusesBadJson) {
  expect_refused(file_bytes("{", ""), {"not valid JSON"});
  expect_refused(file_bytes("{}}", ""), {"not valid JSON"});
  expect_refused(file_bytes("{\"\xff\":1}", ""), {"UTF-8"});
  const std::string twice =
      R"({"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})";
  expect_refused(file_bytes(twice, "x"), {"duplicate key", "t"});
  expect_refused(file_bytes(std::string("{}\0x", 4), ""), {"not valid JSON", "byte 3"});
  expect_refused(file_bytes(R"({"t":1})", ""), {"t", "a JSON object"});
  expect_refused(file_bytes(R"({"__metadata__":{"a":1}})", ""), {"__metadata__.a", "a string"});
  expect_refused(file_bytes(R"({"__metadata__":[]})", ""), {"__metadata__"});
}

TEST(Safetensors, RefusesBadEntries) {
  expect_refused(file_bytes(R"({"t":{"shape":[],"data_offsets":[0,0]}})", ""), {"t", "dtype"});
  expect_refused(file_bytes(one_tensor("F31", "[1]", "[0,4]"), "1234"), {"unknown dtype", "F31"});
  expect_refused(file_bytes(one_tensor("F32", "[-1]", "[0,4]"), "1234"), {"wrong shape", "-1"});
  expect_refused(file_bytes(one_tensor("F32", "[1.0]", "[0,4]"), "1234"), {"wrong shape"});
  expect_refused(file_bytes(one_tensor("F32", "3", "[0,4]"), "1234"), {"wrong shape"});
  expect_refused(file_bytes(one_tensor("F32", "[1]", "[0]"), "1234"), {"wrong data_offsets"});
  expect_refused(file_bytes(one_tensor("F32", "[1]", "[0,-4]"), "1234"), {"wrong data_offsets"});
  expect_refused(file_bytes(one_tensor("F32", "[2]", "[0,4]"), "1234"), {"8 bytes by shape", "got 4"});
  expect_refused(file_bytes(one_tensor("F4", "[3]", "[0,1]"), "1"), {"not a whole number of bytes"});
}

TEST(Safetensors, RefusesOverflows) {
  expect_refused(file_bytes(one_tensor("F32", "[4294967296,4294967296]", "[0,0]"), ""), {"overflows"});
  expect_refused(file_bytes(one_tensor("F32", "[18446744073709551615]", "[0,0]"), ""), {"wrong shape"});
  expect_refused(file_bytes(one_tensor("U8", "[1]", "[18446744073709551615,0]"), "1"), {"data_offsets"});
  expect_refused(file_bytes(one_tensor("U8", "[1]", "[9223372036854775806,9223372036854775807]"), "1"),
                 {"outside the file"});
}

TEST(Safetensors, RefusesBadCoverage) {
  const auto two = [](const char* a, const char* b, const char* data) {
    return file_bytes(std::string(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":)") + a +
                          R"(},"b":{"dtype":"U8","shape":[2],"data_offsets":)" + b + "}}",
                      data);
  };
  EXPECT_EQ(parse_safetensors(two("[2,4]", "[0,2]", "1234"), "x").entries.size(), 2U);
  expect_refused(two("[0,2]", "[1,3]", "123"), {"b", "overlap"});
  expect_refused(two("[0,2]", "[0,2]", "12"), {"overlap"});
  expect_refused(two("[0,2]", "[3,5]", "12345"), {"b", "hole"});
  expect_refused(two("[1,3]", "[3,5]", "12345"), {"a", "hole"});
  expect_refused(two("[0,2]", "[2,4]", "123"), {"b", "outside the file"});
  expect_refused(two("[0,2]", "[2,4]", "12345"), {"do not cover"});
  expect_refused(two("[2,0]", "[2,4]", "1234"), {"a", "outside"});
}

TEST(Safetensors, MissingFilesAndFoldersAreErrors) {
  const test::TemporaryFolder folder;
  expect_error([&] { SafetensorsFile(folder.file("none")); }, ErrorCode::kNotFound, {"none"});
  expect_error([&] { SafetensorsFile(folder.path()); }, ErrorCode::kIo, {"is a folder"});
  folder.write("empty", "");
  expect_error([&] { SafetensorsFile(folder.file("empty")); }, ErrorCode::kBadFile, {"an empty file"});
}

// Parses an exact copy, so that a sanitizer sees every byte read beyond it, and reads all tensor data.
bool parses(const std::string& bytes) {
  const std::vector<char> copy(bytes.begin(), bytes.end());
  try {
    const auto content = parse_safetensors({copy.data(), copy.size()}, "x");
    unsigned sum = 0;
    for (const auto& [name, entry] : content.entries) {
      for (int64_t i = 0; i < entry.bytes; ++i) sum += static_cast<unsigned char>(entry.data[i]);
    }
    return sum != 1;
  } catch (const Error&) {
    return false;
  }
}

TEST(Safetensors, EveryTruncationIsAnError) {
  const std::string bytes = small_file();
  ASSERT_TRUE(parses(bytes));
  for (size_t n = 0; n < bytes.size(); ++n) EXPECT_FALSE(parses(bytes.substr(0, n))) << n;
  EXPECT_FALSE(parses(bytes + "x"));
}

TEST(Safetensors, EveryMutationIsAnErrorOrAFile) {
  const std::string bytes = small_file();
  const size_t data_start = bytes.find('}', bytes.rfind("data_offsets")) + 2;
  for (size_t i = 0; i < bytes.size(); ++i) {
    for (const int flip : {1, 2, 4, 8, 16, 32, 64, 128, 255}) {
      std::string mutated = bytes;
      mutated[i] = static_cast<char>(mutated[i] ^ flip);
      const bool fine = parses(mutated);
      if (i < 8) {
        EXPECT_FALSE(fine) << "a wrong header length passed";
      } else if (i >= data_start + 64) {
        EXPECT_TRUE(fine) << "tensor data decides nothing about the form";
      }
    }
  }
}

// What a hostile header can cost: a million members must not take quadratic time.
TEST(Safetensors, ManyTensorsTakeLinearTime) {
  std::string header = "{";
  for (int i = 0; i < 100'000; ++i) {
    header +=
        (i == 0 ? "\"" : ",\"") + std::to_string(i) + R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  }
  EXPECT_EQ(parse_safetensors(file_bytes(header + "}", ""), "x").entries.size(), 100'000U);
}

}  // namespace
}  // namespace sepllm
