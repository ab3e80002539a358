// A BPE tokenizer that is put together from its parts; one class for tokenizer.json, GPT-2's two files and
// tiktoken.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/bpe/bpe_model.h"
#include "text/formats/named_tokens.h"
#include "text/formats/tokenizer_config.h"
#include "text/steps/added_tokens.h"
#include "text/steps/normalizer.h"
#include "text/steps/pre_tokenizer.h"
#include "text/steps/token_decoder.h"
#include "text/tokenizer.h"

namespace sepllm {

struct BpeParts {
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  BpeModel model;
  AddedTokens added;
  TokenDecoder decoder;
  TextFrame frame;
  std::string format;
};

// The added tokens of a tokenizer with this model: `own`, from its own file, and those that `config` names.
// `renames`: see BaseVocabulary.
AddedTokens make_added_tokens(std::vector<AddedToken> own, const BpeModel& model,
                              const Normalizer& normalizer, const TokenizerConfig& config,
                              const std::string& file, bool renames = false);

class BpeTokenizer : public Tokenizer {
 public:
  // Error (kBadFile) if added tokens contradict the model's vocabulary.
  BpeTokenizer(BpeParts parts, const TokenizerConfig& config, const std::string& file);

  std::vector<int32_t> encode(std::string_view text, const EncodeOptions& options = {}) const override;
  std::string token_bytes(int32_t id) const override;
  std::string last_token_bytes(int32_t id) const override;
  bool last_token_differs() const override { return parts_.decoder.last_differs(); }
  std::string piece(int32_t id) const override;
  std::string decode(const std::vector<int32_t>& ids, bool skip_special = false) const override;
  int64_t vocab_size() const override { return vocab_size_; }
  bool is_special(int32_t id) const override;
  std::optional<int32_t> find(std::string_view piece) const override;
  std::optional<int32_t> bos_id() const override { return bos_; }
  std::optional<int32_t> eos_id() const override { return eos_; }
  bool adds_bos() const override;
  bool cuts_before_line_break() const override;
  std::string format() const override { return parts_.format; }

 private:
  struct Scratch {
    NormalizerScratch normalizer;
    PreTokenizerScratch pre_tokenizer;
    BpeScratch bpe;
  };
  // A working memory that one call borrows; it is kept for the next call.
  class Loan;

  void encode_section(const Piece& part, const SpecialPlaces& places, Scratch& scratch,
                      std::vector<int32_t>& out) const;
  void check_added_tokens(const std::string& file) const;
  void choose_special_ids(const TokenizerConfig& config);
  std::optional<int32_t> choose_id(const SpecialTokenChoice& choice,
                                   std::initializer_list<const char*> usual_names) const;

  BpeParts parts_;
  int64_t vocab_size_ = 0;
  std::vector<std::string> bytes_;  // by token
  std::optional<int32_t> bos_, eos_;
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Scratch>> idle_;
};

}  // namespace sepllm
