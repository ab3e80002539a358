// Packs content as gzip and zstd do.
#pragma once

#include <string>
#include <string_view>

namespace sepllm::test {

std::string gzip(std::string_view content);
std::string zstd(std::string_view content);  // with a checksum

}  // namespace sepllm::test
