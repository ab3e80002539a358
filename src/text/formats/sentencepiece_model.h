// The file of a SentencePiece model: a protocol buffer (ModelProto of sentencepiece_model.proto). It is read
// by our own code, so that every fault in it is an Error and nothing is read out of bounds.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace sepllm {

struct SentencePieceModel {
  enum class Type { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };
  struct Piece {
    std::string text;
    float score = 0;
    Type type = Type::kNormal;
  };
  enum class Algorithm { kUnigram = 1, kBpe = 2, kWord = 3, kChar = 4 };

  std::vector<Piece> pieces;
  Algorithm algorithm = Algorithm::kUnigram;
  bool byte_fallback = false;
  bool whitespace_as_suffix = false;
  std::string bos_piece = "<s>";
  std::string eos_piece = "</s>";
  bool has_normaliser = false;  // a table of character replacements (NFKC, ...)
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
};

// Whether `bytes` begin like such a file (its first field holds a piece). This tells it from a tiktoken
// vocabulary, which has the same name, tokenizer.model.
bool looks_like_sentencepiece(std::string_view bytes);

// Error (kBadFile) with `file` and the byte offset for: anything that is not a protocol buffer; no pieces;
// pieces that are empty, not UTF-8 or given twice; unknown types; no unknown piece or several; byte pieces
// that are not "<0xNN>" or, with byte fallback, are incomplete.
SentencePieceModel parse_sentencepiece_model(std::string_view bytes, const std::string& file);

}  // namespace sepllm
