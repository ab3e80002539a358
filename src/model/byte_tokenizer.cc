// A tokenizer.json that every reader of the form understands: byte-level BPE without merges.
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/byte_alphabet.h"
#include "base/file.h"
#include "base/json.h"
#include "base/utf8.h"
#include "model/random_model.h"

namespace sepllm {
namespace {

Json special_token(int32_t id, const char* content) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", true}};
}

Json tokenizer_json() {
  Json vocab = Json::object();
  for (size_t byte = 0; byte < byte_alphabet().size(); ++byte) {
    std::string piece;
    utf8_append(piece, byte_alphabet()[byte]);
    vocab[piece] = byte;
  }
  const Json byte_level = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens",
           {special_token(kByteTokenizerBos, "<|begin|>"), special_token(kByteTokenizerEos, "<|end|>")}},
          {"normalizer", nullptr},
          {"pre_tokenizer", byte_level},
          {"post_processor", nullptr},
          {"decoder", byte_level},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"vocab", vocab},
            {"merges", Json::array()}}}};
}

}  // namespace

void write_byte_tokenizer(const std::string& folder) {
  const Json settings = {{"bos_token", "<|begin|>"},
                         {"eos_token", "<|end|>"},
                         {"clean_up_tokenization_spaces", false},
                         {"tokenizer_class", "PreTrainedTokenizerFast"}};
  write_file_atomically(folder + "/tokenizer.json", json_text(tokenizer_json(), 1) + "\n");
  write_file_atomically(folder + "/tokenizer_config.json", json_text(settings, 1) + "\n");
}

}  // namespace sepllm
