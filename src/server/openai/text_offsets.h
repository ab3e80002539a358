// Where the tokens of a text stand in it, counted in characters.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace sepllm::server {

class TextOffsets {
 public:
  // `before`: tokens before the text. Without a tokenizer all offsets are 0.
  TextOffsets(const Tokenizer* tokenizer, const std::vector<int32_t>& before, bool skip_special) {
    if (tokenizer != nullptr) decoder_.emplace(*tokenizer, before, skip_special);
  }
  // The offset of the next token: the number of whole characters before it.
  int64_t next(int32_t id) {
    const int64_t at = n_;
    if (decoder_) {
      const std::string text = decoder_->push(id);
      n_ += std::count_if(text.begin(), text.end(),
                          [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
    }
    return at;
  }

 private:
  std::optional<StreamDecoder> decoder_;
  int64_t n_ = 0;
};

}  // namespace sepllm::server
