#include "text/formats/gpt2_files.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/utf8.h"
#include "text/formats/tokenizer_file.h"

namespace sepllm {
namespace {

constexpr const char* kEndOfText = "<|endoftext|>";

std::vector<MergePair> parse_merges(std::string_view text, const std::string& file) {
  if (const auto bad = utf8_find_invalid(text)) {
    throw Error(ErrorCode::kBadFile, "invalid UTF-8",
                {.file = file, .place = "byte " + std::to_string(*bad)});
  }
  std::vector<MergePair> merges;
  size_t line_number = 0;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    ++line_number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || (line_number == 1 && line.starts_with("#version"))) continue;
    merges.push_back(parse_merge(line, file, "line " + std::to_string(line_number)));
  }
  return merges;
}

}  // namespace

std::unique_ptr<Tokenizer> load_gpt2_files(const std::string& vocab_path, const std::string& merges_path,
                                           const TokenizerConfig& config) {
  PieceTable pieces(parse_vocab_file(read_file(vocab_path), vocab_path), vocab_path);
  const std::vector<MergePair> merges = parse_merges(read_file(merges_path), merges_path);
  std::vector<AddedToken> special;
  if (const int32_t id = pieces.find(kEndOfText); id >= 0) {
    special.push_back({.id = id, .content = kEndOfText, .special = true});
  }
  BpeModel model(std::move(pieces), merges, {.bytes = true}, merges_path);
  AddedTokens added = make_added_tokens(std::move(special), model, Normalizer(), config, vocab_path);
  return std::make_unique<BpeTokenizer>(
      BpeParts{{},
               PreTokenizer::byte_level(kGpt2Pattern, config.add_prefix_space.value_or(false)),
               std::move(model),
               std::move(added),
               TokenDecoder::byte_level(),
               {},
               "byte-level BPE (vocab.json, merges.txt)"},
      config, vocab_path);
}

}  // namespace sepllm
