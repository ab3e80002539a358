#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/file_kind.h"
#include "checkpoint/gguf.h"
#include "text/formats/chat_files.h"
#include "text/formats/gguf_tokenizer.h"
#include "text/formats/gpt2_files.h"
#include "text/formats/llama2c_tokenizer.h"
#include "text/formats/sentencepiece_tokenizer.h"
#include "text/formats/tiktoken.h"
#include "text/formats/tokenizer_config.h"
#include "text/formats/tokenizer_json.h"
#include "text/tokenizer.h"

namespace sepllm {
namespace {

constexpr uint64_t kMaxTokenizerFile = uint64_t{1} << 30;

std::string folder_of(const std::string& file) {
  const std::string folder = std::filesystem::path(file).parent_path().string();
  return folder.empty() ? "." : folder;
}

bool is_json(std::string_view bytes) {
  const size_t at = bytes.find_first_not_of(" \t\r\n");
  return at != std::string_view::npos && bytes[at] == '{';
}

// SentencePiece and tiktoken share the name tokenizer.model.
std::unique_ptr<Tokenizer> load_model_file(const std::string& path, const std::string& bytes,
                                           const TokenizerConfig& config) {
  if (looks_like_tiktoken(bytes)) return parse_tiktoken(bytes, path, config);
  if (!looks_like_sentencepiece(bytes)) {
    throw Error(ErrorCode::kBadFile, "neither a SentencePiece model nor a tiktoken file", {.file = path});
  }
  return parse_sentencepiece(bytes, path, config);
}

std::unique_ptr<Tokenizer> load_file(const std::string& path, int64_t config_vocab_size) {
  const std::string name = std::filesystem::path(path).filename().string();
  const std::string folder = folder_of(path);
  TokenizerConfig config = read_tokenizer_config(folder);
  if (config_vocab_size > 0) config.model_vocab_size = config_vocab_size;
  if (name.ends_with(".bin")) return load_llama2c(path, config_vocab_size, config);
  if (name == "vocab.json" || name == "merges.txt") {
    return load_gpt2_files(folder + "/vocab.json", folder + "/merges.txt", config);
  }
  const std::string bytes = read_file(path, kMaxTokenizerFile);
  if (is_json(bytes)) return parse_tokenizer_json(bytes, path, config);
  return load_model_file(path, bytes, config);
}

// The first tok*.bin of a folder, by name.
std::string find_llama2c(const std::string& folder) {
  std::vector<std::string> found;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().filename();
    if (name.starts_with("tok") && name.ends_with(".bin")) found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  return found.empty() ? "" : found.front();
}

std::string choose_file(const std::string& folder) {
  for (const char* name : {"tokenizer.json", "tokenizer.model"}) {
    if (file_exists(folder + "/" + name)) return folder + "/" + name;
  }
  const bool has_vocab = file_exists(folder + "/vocab.json");
  if (has_vocab && file_exists(folder + "/merges.txt")) return folder + "/vocab.json";
  if (const std::string found = find_llama2c(folder); !found.empty()) return found;
  throw Error(ErrorCode::kNotFound, "no tokenizer in the folder",
              {.file = folder,
               .expected = "tokenizer.json, tokenizer.model, vocab.json with merges.txt, or tok*.bin"});
}

}  // namespace

std::unique_ptr<Tokenizer> load_tokenizer(const std::string& path, int64_t config_vocab_size) {
  if (is_gguf_file(path)) return gguf_tokenizer(GgufFile(path).metadata(), config_vocab_size);
  const std::string file = is_folder(path) ? choose_file(path) : path;
  try {
    return load_file(file, config_vocab_size);
  } catch (const Error&) {
    if (is_regular_file(file)) {
      for (const StoredTokenizerFile& stored : tokenizer_files(path))
        refuse_stand_in(stored.path, "a tokenizer's file");
    }
    throw;
  }
}

std::vector<StoredTokenizerFile> tokenizer_files(const std::string& path) {
  std::vector<StoredTokenizerFile> out;
  if (is_gguf_file(path)) {
    for (auto& [name, content] : gguf_tokenizer_files(GgufFile(path).metadata()))
      out.push_back({path, name, std::move(content)});
    return out;
  }
  const bool whole = is_folder(path);
  const std::string folder = whole ? path : folder_of(path);
  const auto add = [&](const std::string& name) {
    if (file_exists(folder + "/" + name)) out.push_back({folder + "/" + name, name, {}});
  };
  const std::string lone = whole ? "" : std::filesystem::path(path).filename().string();
  if (whole) {
    add("tokenizer.json");
    add("tokenizer.model");
    if (const std::string found = find_llama2c(folder); !found.empty())
      out.push_back({found, std::filesystem::path(found).filename(), {}});
  } else if (lone.ends_with(".bin")) {
    out.push_back({path, lone.starts_with("tok") ? lone : "tokenizer.bin", {}});
  } else if (lone != "vocab.json" && lone != "merges.txt") {
    const bool json = is_json(read_file(path, kMaxTokenizerFile));
    out.push_back({path, json ? "tokenizer.json" : "tokenizer.model", {}});
  }
  if (whole || out.empty()) {
    add("vocab.json");
    add("merges.txt");
  }
  if (out.empty()) return out;
  for (const char* name : {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"})
    add(name);
  for (const std::string& name : chat_template_files(folder)) add(name);
  return out;
}

bool has_tokenizer(const std::string& path) {
  return is_gguf_file(path) ? has_gguf_tokenizer(GgufFile(path).metadata()) : !tokenizer_files(path).empty();
}

std::string StoredTokenizerFile::read() const { return content ? *content : read_file(path); }

}  // namespace sepllm
