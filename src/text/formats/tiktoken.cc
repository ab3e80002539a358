#include "text/formats/tiktoken.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "base/byte_alphabet.h"
#include "base/error.h"

namespace sepllm {
namespace {

int base64_digit(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  return c == '+' ? 62 : c == '/' ? 63 : -1;
}

std::optional<std::string> decode_base64(std::string_view text) {
  if (text.empty() || text.size() % 4 != 0) return std::nullopt;
  const size_t padding = text.ends_with("==") ? 2 : text.ends_with("=") ? 1 : 0;
  std::string out;
  uint32_t bits = 0;
  for (size_t k = 0; k < text.size(); ++k) {
    const int digit = k + padding < text.size() ? base64_digit(text[k]) : 0;
    if (digit < 0) return std::nullopt;
    bits = bits << 6 | static_cast<uint32_t>(digit);
    if (k % 4 != 3) continue;
    for (int shift = 16; shift >= 0; shift -= 8) out += static_cast<char>(bits >> shift & 0xFF);
    bits = 0;
  }
  out.resize(out.size() - padding);
  return out;
}

struct Line {
  std::string token;
  int64_t rank;
};

std::optional<Line> parse_line(std::string_view line) {
  const size_t blank = line.find(' ');
  if (blank == std::string_view::npos) return std::nullopt;
  auto token = decode_base64(line.substr(0, blank));
  int64_t rank = -1;
  const char* end = line.data() + line.size();
  const auto [stop, error] = std::from_chars(line.data() + blank + 1, end, rank);
  if (!token || error != std::errc() || stop != end || rank < 0) return std::nullopt;
  return Line{std::move(*token), rank};
}

std::string_view take_line(std::string_view& text) {
  const size_t end = std::min(text.find('\n'), text.size());
  std::string_view line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

std::vector<VocabEntry> parse_ranks(std::string_view text, const std::string& file) {
  std::vector<VocabEntry> entries;
  for (size_t number = 1; !text.empty(); ++number) {
    const std::string_view line = take_line(text);
    if (line.empty()) continue;
    const auto parsed = parse_line(line);
    if (!parsed || parsed->rank != static_cast<int64_t>(entries.size())) {
      throw Error(ErrorCode::kBadFile, "wrong line of a tiktoken file",
                  {.file = file,
                   .place = fmt::format("line {}", number),
                   .expected = fmt::format("a token in base64 and {}", entries.size()),
                   .got = "\"" + std::string(line) + "\""});
    }
    std::string piece;
    append_byte_level(piece, parsed->token);
    entries.emplace_back(std::move(piece), parsed->rank);
  }
  return entries;
}

void check_bytes(const PieceTable& pieces, const std::string& file) {
  for (int b = 0; b < 256; ++b) {
    std::string piece;
    append_byte_level(piece, std::string(1, static_cast<char>(b)));
    if (pieces.find(piece) >= 0) continue;
    throw Error(ErrorCode::kBadFile, "a byte has no token",
                {.file = file, .place = fmt::format("byte {:#04x}", b)});
  }
}

// In the order of their ids.
std::vector<AddedToken> llama3_special_tokens(int64_t first_id) {
  std::vector<std::string> names = {"<|begin_of_text|>",
                                    "<|end_of_text|>",
                                    "<|reserved_special_token_0|>",
                                    "<|reserved_special_token_1|>",
                                    "<|reserved_special_token_2|>",
                                    "<|reserved_special_token_3|>",
                                    "<|start_header_id|>",
                                    "<|end_header_id|>",
                                    "<|reserved_special_token_4|>",
                                    "<|eot_id|>"};
  for (int k = 5; k < 251; ++k) names.push_back(fmt::format("<|reserved_special_token_{}|>", k));
  std::vector<AddedToken> tokens;
  for (const std::string& name : names) {
    tokens.push_back({.id = static_cast<int32_t>(first_id++), .content = name, .special = true});
  }
  return tokens;
}

}  // namespace

bool looks_like_tiktoken(std::string_view bytes) { return parse_line(take_line(bytes)).has_value(); }

std::unique_ptr<Tokenizer> parse_tiktoken(std::string_view bytes, const std::string& file,
                                          TokenizerConfig config) {
  config.add_bos = config.add_bos.value_or(true);
  PieceTable pieces(parse_ranks(bytes, file), file);
  check_bytes(pieces, file);
  const auto first_special = static_cast<int32_t>(pieces.size());
  BpeModel model = BpeModel::from_ranks(std::move(pieces), {.bytes = true, .ignore_merges = true}, file);
  AddedTokens added = make_added_tokens(llama3_special_tokens(first_special), model, Normalizer(), config,
                                        file, /*renames=*/true);
  return std::make_unique<BpeTokenizer>(BpeParts{{},
                                                 PreTokenizer::byte_level(kLlama3Pattern),
                                                 std::move(model),
                                                 std::move(added),
                                                 TokenDecoder::byte_level(),
                                                 {},
                                                 "tiktoken"},
                                        config, file);
}

}  // namespace sepllm
