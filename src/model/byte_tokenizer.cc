// A tokenizer.json that every reader of the form understands: byte-level BPE without merges.
#include "base/file.h"
#include "base/json.h"
#include "base/utf8.h"
#include "model/random_model.h"

namespace sepllm {
namespace {

// GPT-2's printable stand-ins for bytes: printable Latin-1 stands for itself, the others follow from U+0100.
std::string stand_in(int byte, char32_t* next_free) {
  const bool printable =
      (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
  std::string out;
  utf8_append(out, printable ? static_cast<char32_t>(byte) : (*next_free)++);
  return out;
}

Json special_token(int32_t id, const char* content) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", true}};
}

Json tokenizer_json() {
  Json vocab = Json::object();
  char32_t next_free = 0x100;
  for (int byte = 0; byte < 256; ++byte) vocab[stand_in(byte, &next_free)] = byte;
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
