// Tokenizers as checkpoints ship them: one interface, one file per format.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/text_range.h"

namespace sepllm {

struct EncodeOptions {
  // Special strings ("<|endoftext|>") in the text become their tokens, as in Hugging Face's tokenizers. Off
  // for text that a chat's user typed.
  bool parse_special = true;
  // Adds the tokens that the tokenizer's files put around a text (post-processor: BOS, ...).
  bool add_special = false;
  // The text continues another part: nothing is added that belongs only at the start of a text (a dummy
  // blank). See cuts_before_line_break().
  bool continues = false;
  // If `parse_special`: special tokens are recognised only where all of their bytes lie in one of these
  // ranges, which are ascending and do not touch. Null: anywhere.
  const std::vector<TextRange>* special_within = nullptr;
};

// A chat template that comes with a tokenizer.
struct NamedTemplate {
  std::string name;  // "default", "tool_use", ...
  std::string text;
  std::string file;  // for errors
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // Token ids of `text`. Error (kInvalidArgument) with the byte offset if `text` is not valid UTF-8.
  virtual std::vector<int32_t> encode(std::string_view text, const EncodeOptions& options = {}) const = 0;

  // Whether a long text may be cut before a line break (CR or LF) that follows an ASCII letter: the ids of
  // its parts, encoded with `continues` from the second part on, are then those of the whole text. False: not
  // known.
  virtual bool cuts_before_line_break() const { return false; }

  // The bytes that token `id` contributes to a text, as decode() joins them; special tokens give their text.
  // Empty for ids outside the vocabulary. If a format drops a blank at the start of a text (SentencePiece),
  // this is the form inside a text, with the blank.
  virtual std::string token_bytes(int32_t id) const = 0;
  // The same at the end of a text, where some formats omit the blank between words.
  virtual std::string last_token_bytes(int32_t id) const { return token_bytes(id); }
  // Whether these two differ for any token. In such formats, the start of a text is decoded like its inside.
  virtual bool last_token_differs() const { return false; }
  // The token as its file writes it ("Ġthe", "▁the", "<0x0A>").
  virtual std::string piece(int32_t id) const = 0;

  // The bytes of the whole sequence (not always valid UTF-8: a token is not a character). `skip_special`
  // leaves special tokens out.
  virtual std::string decode(const std::vector<int32_t>& ids, bool skip_special = false) const = 0;

  // One more than the largest id.
  virtual int64_t vocab_size() const = 0;
  virtual bool is_special(int32_t id) const = 0;
  // Id of a piece or special token by its exact text ("<|eot_id|>").
  virtual std::optional<int32_t> find(std::string_view piece) const = 0;
  virtual std::optional<int32_t> bos_id() const = 0;
  virtual std::optional<int32_t> eos_id() const = 0;
  // Whether the tokenizer's files put a BOS before a text (--bos auto).
  virtual bool adds_bos() const = 0;
  // "byte-level BPE (tokenizer.json)", "SentencePiece", "tiktoken", "llama2.c"
  virtual std::string format() const = 0;
  // The chat templates of the tokenizer's files (text/formats/chat_files.h), or of a GGUF file.
  const std::vector<NamedTemplate>& chat_templates() const { return chat_templates_; }
  void set_chat_templates(std::vector<NamedTemplate> templates) { chat_templates_ = std::move(templates); }
  // The text of the default template, if there is one.
  std::optional<std::string> chat_template() const;
  void set_chat_template(std::string text) {
    chat_templates_ = {{"default", std::move(text), "the chat template"}};
  }
  // The tokens that the files name "bos_token", "eos_token", "pad_token", ...; empty if there are no such
  // files. Chat templates get them as variables.
  const std::map<std::string, std::string>& token_texts() const { return token_texts_; }
  void set_token_texts(std::map<std::string, std::string> texts) { token_texts_ = std::move(texts); }

 private:
  std::vector<NamedTemplate> chat_templates_;
  std::map<std::string, std::string> token_texts_;
};

// Reads the tokenizer of a HF folder (tokenizer.json, else tokenizer.model (SentencePiece or tiktoken, told
// apart by content), else vocab.json + merges.txt, else tok*.bin), or one such file, and the files next to it
// that say more about it (text/formats/tokenizer_config.h). `config_vocab_size` > 0: the model's embedding
// rows, for llama2.c files, whose size is not stored, and for tokens to which no file gives an id. Error for
// any fault in the files.
std::unique_ptr<Tokenizer> load_tokenizer(const std::string& path, int64_t config_vocab_size = 0);

// A file of a tokenizer, and its name in a HF folder.
struct StoredTokenizerFile {
  std::string path, name;
  std::optional<std::string> content{};  // of a file that stands for a part of a GGUF file

  std::string read() const;  // its bytes
};
// The files that load_tokenizer(path) reads, and those next to them that belong to the tokenizer; for a GGUF
// file those that a HF folder of the same model has. None where there is no tokenizer.
std::vector<StoredTokenizerFile> tokenizer_files(const std::string& path);
// Whether there are any.
bool has_tokenizer(const std::string& path);

// Turns tokens into text as they arrive, and never splits a character: bytes of an unfinished character are
// held back. The joined outputs of push() and finish() equal utf8_sanitize(decode(all ids) without
// decode(prefix)).
class StreamDecoder {
 public:
  // `prefix`: tokens that were shown before (they decide, for example, whether a leading blank belongs to the
  // text).
  explicit StreamDecoder(const Tokenizer& tokenizer, const std::vector<int32_t>& prefix = {},
                         bool skip_special = false);

  std::string push(int32_t id);
  std::string finish();

 private:
  std::string bytes_of(int32_t id);
  std::string bytes_with_end(int32_t id);

  const Tokenizer& tokenizer_;
  bool skip_special_;
  bool at_start_ = true;        // only special tokens so far: formats that strip a leading blank do it here
  std::vector<int32_t> start_;  // these special tokens
  std::string held_;            // bytes of an unfinished character
  // The end of the last token if another one follows, and if none follows.
  std::string inner_end_, last_end_;
};

}  // namespace sepllm
