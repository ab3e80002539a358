// Token files in Megatron's format, PREFIX.bin and PREFIX.idx (MMapIndexedDataset version 1, as GPT-NeoX and
// Megatron-LM write and read them): the tokens of all documents one after the other, and where each document
// begins.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"

namespace sepllm {

// The type of a stored token, with Megatron's code for it, and its size in bytes.
enum class TokenType : uint8_t { kUint8 = 1, kInt8 = 2, kInt16 = 3, kInt32 = 4, kInt64 = 5, kUint16 = 8 };
int64_t token_bytes(TokenType type);

// Read-only and mapped: opening reads the index once; tokens are read when they are asked for.
class TokenFile {
 public:
  // Error (kNotFound, kBadFile, kUnsupported) naming the file and place for: a missing file, wrong magic,
  // another version, an unknown token type, an index cut off or too long, sizes or pointers that do not
  // describe the .bin file from its beginning to its end without gaps, documents out of order. Some versions
  // of Megatron-LM and GPT-NeoX lost the bits above 32 of pointers beyond 2 GiB; these are completed from the
  // sizes if they describe the .bin file, with one warning.
  explicit TokenFile(const std::string& prefix);

  int64_t n_tokens() const { return n_tokens_; }
  int64_t n_documents() const { return n_documents_; }
  TokenType type() const { return type_; }
  const std::string& prefix() const { return prefix_; }
  // A hash of the index and of samples of the tokens: equal hashes mean equal data, in practice.
  uint64_t fingerprint() const { return fingerprint_; }
  // A hash of every byte of both files, which it reads once. For files beyond 4 GiB: of 4 GiB in 65,536
  // pieces that are spread evenly over them.
  uint64_t content_hash() const;

  // out[i] = token first + i. first >= 0, first + out.size() <= n_tokens(). Error (kBadFile) naming its place
  // for an id outside [0, vocab_size).
  void read(int64_t first, std::span<int32_t> out, int64_t vocab_size) const;
  // The first token of document d in [0, n_documents()]; for the last value this is n_tokens().
  int64_t document_begin(int64_t d) const;
  // The document that contains this token.
  int64_t document_of(int64_t token) const;

 private:
  void read_index();
  void check_items();
  bool is_overflow(int64_t item, int64_t begin);
  void warn_of_overflow() const;
  int64_t item_begin(int64_t item) const;  // in tokens
  [[noreturn]] void bad_index(const std::string& message, int64_t item) const;

  std::string prefix_;
  std::unique_ptr<MappedFile> index_, data_;
  TokenType type_ = TokenType::kInt32;
  int64_t n_items_ = 0, n_documents_ = 0, n_tokens_ = 0;
  const char* sizes_ = nullptr;      // int32 [n_items], not aligned
  const char* pointers_ = nullptr;   // int64 [n_items]: byte offsets in the .bin file
  const char* documents_ = nullptr;  // int64 [n_documents + 1]: the first item of each document
  // For pointers that have overflowed: what must be added to the low 32 bits (bytes), from this item on.
  struct HighPart {
    int64_t item, bytes;
  };
  std::vector<HighPart> high_parts_;
  uint64_t fingerprint_ = 0;
};

// Writes such files. After finish() both are complete; without it there is none.
class TokenFileWriter {
 public:
  // Tokens have 16 bits if the vocabulary allows it (below 65,500, as GPT-NeoX chooses), else 32 bits. Error
  // (kIo).
  TokenFileWriter(const std::string& prefix, int64_t vocab_size);
  ~TokenFileWriter();

  // Adds tokens of the current document, in [0, vocab_size).
  void add(std::span<const int32_t> tokens);
  // Ends the document; one without tokens is left out.
  void end_document();
  void finish();

  int64_t n_tokens() const;
  int64_t n_documents() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sepllm
