// Decoders of a tokenizer.json: they turn a token's piece into its bytes.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "text/steps/split_pattern.h"

namespace sepllm {

// Where a token stands in the sequence that is decoded.
struct TokenPlace {
  bool first = false;
  bool last = false;
};

class DecoderStep {
 public:
  virtual ~DecoderStep() = default;
  // The text of a token after this step.
  virtual std::string apply(std::string token, TokenPlace place) const = 0;
  // Whether the first or last token of a sequence may come out differently from the same token elsewhere.
  virtual bool first_differs() const { return false; }
  virtual bool last_differs() const { return false; }
};

class TokenDecoder {
 public:
  // Only ByteLevel, for tokenizers without a tokenizer.json.
  static TokenDecoder byte_level();
  // The step under the key "decoder" of `document`: ByteLevel, Replace, ByteFallback, Fuse, Strip, Metaspace,
  // BPEDecoder, or a sequence of them. Without one, tokens are joined as they are, or as bytes if
  // `pieces_are_bytes`. Error (kUnsupported) for any other, and for steps that change a text across its
  // tokens, except for the blank that Strip takes from its start.
  TokenDecoder(const JsonObject& document, bool pieces_are_bytes);

  // The bytes of a token.
  std::string token_bytes(std::string_view piece, TokenPlace place) const;
  bool first_differs() const;
  bool last_differs() const;
  // Removes from the start of a whole text what Strip (after Fuse) says.
  void strip_start(std::string& text) const;

 private:
  TokenDecoder() = default;
  void add_step(const JsonObject& step, const std::string& type);

  std::vector<std::unique_ptr<DecoderStep>> steps_;
  bool fused_ = false;
  std::string strip_;       // the character that is removed from the start of the text
  size_t strip_count_ = 0;  // how often it is removed at most
};

}  // namespace sepllm
