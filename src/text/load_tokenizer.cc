#include <algorithm>
#include <filesystem>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "text/llama2c_tokenizer.h"
#include "text/sentencepiece_tokenizer.h"
#include "text/tokenizer.h"

namespace sepllm {
namespace {

std::unique_ptr<Tokenizer> load_model_file(const std::string& path) {
  if (looks_like_sentencepiece(read_file(path, uint64_t{1} << 28))) return load_sentencepiece(path);
  throw Error(ErrorCode::kUnsupported, "not a SentencePiece model", {.file = path});
}

std::unique_ptr<Tokenizer> load_file(const std::string& path, int64_t config_vocab_size) {
  if (path.ends_with(".model")) return load_model_file(path);
  if (path.ends_with(".bin")) return load_llama2c(path, config_vocab_size);
  throw Error(ErrorCode::kUnsupported, "unknown kind of tokenizer",
              {.file = path, .expected = "*.model or *.bin"});
}

// The first tok*.bin of a folder by name.
std::string find_llama2c(const std::string& folder) {
  std::vector<std::string> found;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().filename();
    if (name.starts_with("tok") && name.ends_with(".bin")) found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  return found.empty() ? "" : found.front();
}

}  // namespace

std::unique_ptr<Tokenizer> load_tokenizer(const std::string& path, int64_t config_vocab_size) {
  if (!is_folder(path)) return load_file(path, config_vocab_size);
  if (file_exists(path + "/tokenizer.model")) return load_model_file(path + "/tokenizer.model");
  if (const std::string file = find_llama2c(path); !file.empty())
    return load_llama2c(file, config_vocab_size);
  throw Error(ErrorCode::kNotFound, "no tokenizer in the folder",
              {.file = path, .expected = "tokenizer.model or tok*.bin"});
}

}  // namespace sepllm
