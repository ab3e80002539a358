#include "checkpoint/gguf_parts.h"

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>

#include "base/check.h"
#include "base/error.h"

namespace sepllm {
namespace {

constexpr const char* kNumberKey = "split.no";
constexpr const char* kCountKey = "split.count";
constexpr const char* kTensorsKey = "split.tensors.count";
constexpr int64_t kMostParts = 65'535;  // split.count is a u16

std::string part_ending(int64_t index, int64_t count) {
  return fmt::format("-{:05}-of-{:05}.gguf", index, count);
}

}  // namespace

int64_t count_gguf_parts(const GgufMetadata& first) {
  const int64_t count = first.integer_or(kCountKey, 0, 0, kMostParts);
  if (count <= 1) return 1;
  const int64_t index = first.integer(kNumberKey, 0, count - 1) + 1;
  const std::string& path = first.file();
  if (!path.ends_with(part_ending(index, count))) {
    throw Error(ErrorCode::kBadFile,
                fmt::format("the file is one of {} parts, whose names tell them apart", count),
                {.file = path,
                 .expected = "a name that ends in " + part_ending(index, count),
                 .hint = "give the parts the names that they had"});
  }
  if (index == 1) return count;
  throw Error(ErrorCode::kInvalidArgument, fmt::format("this is part {} of {} of a model", index, count),
              {.file = path, .expected = "the first part", .hint = "give " + gguf_part_path(path, 1, count)});
}

std::string gguf_part_path(const std::string& first, int64_t index, int64_t count) {
  const size_t ending = part_ending(1, count).size();
  SEPLLM_CHECK(first.size() >= ending);
  return first.substr(0, first.size() - ending) + part_ending(index, count);
}

void check_gguf_part(const GgufMetadata& part, int64_t index, int64_t count) {
  const auto check = [&](const char* key, int64_t expected) {
    const int64_t got =
        part.integer(key, std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max());
    if (got == expected) return;
    part.fail(key, "the file is not the part that its name says", fmt::format("{}", expected),
              fmt::format("{}", got));
  };
  check(kCountKey, count);
  check(kNumberKey, index - 1);
}

void check_gguf_tensor_count(const GgufMetadata& first, int64_t n_tensors) {
  if (!first.has(kTensorsKey)) return;
  const int64_t expected = first.integer(kTensorsKey, 0, std::numeric_limits<int64_t>::max());
  if (expected == n_tensors) return;
  first.fail(kTensorsKey, "the parts have another number of tensors", fmt::format("{}", expected),
             fmt::format("{}", n_tensors));
}

}  // namespace sepllm
