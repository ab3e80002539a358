// Normalizers of a tokenizer.json: changes that are made to a text before anything else.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "text/steps/regex.h"

namespace sepllm {

class NormalizerStep {
 public:
  virtual ~NormalizerStep() = default;
  // Writes the normal form of `in` (valid UTF-8) to `out`, or returns false if `in` is already normal.
  virtual bool apply(std::string_view in, std::string& out, RegexScratch& scratch) const = 0;
  // Whether a text that is cut before a line break after an ASCII letter may be normalized part by part.
  virtual bool cuts_before_line_break() const { return false; }
};

// Buffers of a normalization, reused between texts.
struct NormalizerScratch {
  RegexScratch regex;
  std::string current, next;
};

class Normalizer {
 public:
  Normalizer() = default;
  // The step under the key "normalizer" of `document`: NFC, NFD, NFKC, NFKD, Lowercase, Strip, StripAccents,
  // Prepend, Replace, BertNormalizer, Nmt, ByteLevel, or a sequence of them. Error (kUnsupported) for any
  // other.
  explicit Normalizer(const JsonObject& document);

  // The normal form; it lies in `scratch`, or is `text` itself.
  std::string_view apply(std::string_view text, NormalizerScratch& scratch) const;
  bool cuts_before_line_break() const;

 private:
  void add_step(const JsonObject& step, const std::string& type);
  void add_bert_steps(const JsonObject& step);

  std::vector<std::unique_ptr<NormalizerStep>> steps_;
};

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };
// One of the normal forms of Unicode 9.0. Characters that no neighbour can change are skipped without a
// look-up.
std::unique_ptr<NormalizerStep> make_unicode_normalizer(NormalForm form);
// Whether `c` is its own NFC, starts a new unit there and never joins the character before it, so that a text
// may be cut before it. True only for characters of which this is certain, which are most characters of
// running text.
bool is_nfc_inert(char32_t c);

// Steps that look at each character separately (character_normalizers.cc). This one removes characters with
// any flag of `mask` (normalizer_classes()).
std::unique_ptr<NormalizerStep> make_class_remover(uint8_t mask);
std::unique_ptr<NormalizerStep> make_lowercase();
// clean_text and handle_chinese_chars of BertNormalizer: removes control characters, makes all white space a
// blank, and puts blanks around Chinese characters.
std::unique_ptr<NormalizerStep> make_bert_cleaner();
std::unique_ptr<NormalizerStep> make_han_spacer();
// SentencePiece's nmt rule: removes some control characters; other ones and all kinds of blanks become a
// blank.
std::unique_ptr<NormalizerStep> make_nmt();
// Writes the bytes of the text in GPT-2's alphabet.
std::unique_ptr<NormalizerStep> make_byte_level_normalizer();

}  // namespace sepllm
