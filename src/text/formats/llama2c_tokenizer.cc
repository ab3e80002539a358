#include "text/formats/llama2c_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/utf8.h"
#include "text/bpe/score_bpe.h"
#include "text/formats/named_tokens.h"

namespace sepllm {
namespace {

constexpr int32_t kBos = 1;
constexpr int32_t kEos = 2;
constexpr int32_t kFirstByte = 3;
constexpr int32_t kFirstPiece = kFirstByte + 256;
constexpr uint64_t kMaxFileBytes = uint64_t{1} << 28;

// Reads the numbers and bytes of a file in order.
class Reader {
 public:
  Reader(std::string_view bytes, std::string file) : bytes_(bytes), file_(std::move(file)) {}

  bool at_end() const { return at_ == bytes_.size(); }
  size_t at() const { return at_; }
  template <typename T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof(T)).data(), sizeof(T));
    return value;
  }
  std::string_view take(size_t n) {
    if (n > bytes_.size() - at_) {
      throw Error(ErrorCode::kBadFile, "truncated llama2.c tokenizer",
                  {.file = file_,
                   .place = fmt::format("byte {}", at_),
                   .expected = fmt::format("{} more bytes", n),
                   .got = std::to_string(bytes_.size() - at_)});
    }
    at_ += n;
    return bytes_.substr(at_ - n, n);
  }

 private:
  std::string_view bytes_;
  std::string file_;
  size_t at_ = 0;
};

std::vector<ScoredPiece> read_pieces(std::string_view bytes, const std::string& path) {
  Reader reader(bytes, path);
  const auto longest = reader.number<int32_t>();
  std::vector<ScoredPiece> pieces;
  while (!reader.at_end()) {
    ScoredPiece piece;
    piece.score = reader.number<float>();
    const size_t place = reader.at();
    const auto length = reader.number<int32_t>();
    if (length < 0 || length > longest) {
      throw Error(ErrorCode::kBadFile, "bad length of a token",
                  {.file = path,
                   .place = fmt::format("byte {}", place),
                   .expected = fmt::format("0 to {}", longest),
                   .got = std::to_string(length)});
    }
    piece.text = reader.take(static_cast<size_t>(length));
    pieces.push_back(std::move(piece));
  }
  return pieces;
}

std::string byte_piece(int byte) { return fmt::format("<0x{:02X}>", byte); }

void check_pieces(const std::vector<ScoredPiece>& pieces, const std::string& path,
                  int64_t config_vocab_size) {
  const auto n = static_cast<int64_t>(pieces.size());
  if (config_vocab_size > 0 && n != config_vocab_size) {
    throw Error(ErrorCode::kBadFile, "the tokenizer does not fit the model",
                {.file = path,
                 .expected = fmt::format("{} tokens, as the model's vocabulary", config_vocab_size),
                 .got = std::to_string(n)});
  }
  for (int byte = 0; byte < 256; ++byte) {
    const auto id = static_cast<size_t>(kFirstByte + byte);
    if (id < pieces.size() && pieces[id].text == byte_piece(byte)) continue;
    throw Error(ErrorCode::kBadFile, "not a llama2.c tokenizer: the tokens of the bytes are missing",
                {.file = path,
                 .place = fmt::format("token {}", id),
                 .expected = byte_piece(byte),
                 .got = id < pieces.size() ? "'" + pieces[id].text + "'" : "end of file"});
  }
}

// Encodes as llama2.c does. On models like Llama-2's (BPE, no normalisation, dummy prefix) the result is that
// of SentencePiece, with one exception: the file does not tell control and user-defined tokens from others,
// so only the special strings that the files next to it name are parsed in a text. The order of merges is the
// same (best score, leftmost first); runs of blanks are the same too, since their pieces are ordinary ones of
// lowest score in Llama-2's model.
class Llama2cTokenizer : public Tokenizer {
 public:
  Llama2cTokenizer(std::vector<ScoredPiece> pieces, const TokenizerConfig& config, const std::string& file)
      : pieces_(std::move(pieces)), bpe_(pieces_, file), add_prefix_(config.add_prefix_space.value_or(true)) {
    for (int byte = 0; byte < 256; ++byte) byte_ids_[static_cast<size_t>(byte)] = kFirstByte + byte;
    add_tokens(config, file);
    const auto choose = [&](const SpecialTokenChoice& choice, int32_t own) {
      return choice.text ? find(*choice.text).value_or(own) : own;
    };
    bos_ = choose(config.bos, kBos);
    eos_ = choose(config.eos, kEos);
    frame_.before.push_back(bos_);
    adapt_frame(frame_, config, bos_, eos_);
    set_chat_templates(config.chat_templates);
    set_token_texts(config.token_texts);
  }

  std::vector<int32_t> encode(std::string_view text, const EncodeOptions& options) const override {
    if (const auto bad = utf8_find_invalid(text)) {
      throw Error(ErrorCode::kInvalidArgument, "the text is not valid UTF-8",
                  {.place = fmt::format("byte {}", *bad)});
    }
    std::vector<int32_t> ids;
    if (options.add_special) ids = frame_.before;
    const AddedTokens& added = options.special_within != nullptr ? added_with_ends_ : added_;
    added.split(text, false, {options.parse_special, options.special_within}, [&](const Section& section) {
      if (section.id >= 0) return ids.push_back(section.id);
      const bool at_start = section.text.data() == text.data() && !options.continues;
      std::string with_blank;
      with_blank.reserve(section.text.size() + 1);
      if (at_start && add_prefix_) with_blank += ' ';
      with_blank += section.text;
      bpe_.encode(with_blank, byte_ids_, ids);
    });
    if (options.add_special) ids.insert(ids.end(), frame_.after.begin(), frame_.after.end());
    return ids;
  }

  std::string token_bytes(int32_t id) const override {
    if (id >= kFirstByte && id < kFirstPiece) return std::string(1, static_cast<char>(id - kFirstByte));
    return piece(id);
  }

  std::string piece(int32_t id) const override {
    const AddedToken* token = added_.by_id(id);
    return token != nullptr ? token->content : own_piece(id);
  }

  std::string decode(const std::vector<int32_t>& ids, bool skip_special) const override {
    std::string out;
    bool at_start = add_prefix_;
    for (const int32_t id : ids) {
      if (is_special(id)) {
        if (!skip_special) out += piece(id);
        continue;
      }
      const std::string bytes = token_bytes(id);
      const bool drop_blank = at_start && !bytes.empty() && bytes[0] == ' ';
      out.append(bytes, drop_blank ? 1 : 0);
      if (!bytes.empty()) at_start = false;
    }
    return out;
  }

  int64_t vocab_size() const override { return vocab_size_; }
  bool is_special(int32_t id) const override {
    const AddedToken* token = added_.by_id(id);
    return (id >= 0 && id < kFirstByte) || (token != nullptr && token->special);
  }

  std::optional<int32_t> find(std::string_view text) const override {
    if (const AddedToken* token = added_.by_content(text)) return token->id;
    const int32_t id = find_piece(text);
    return id < 0 ? std::nullopt : std::optional(id);
  }

  std::optional<int32_t> bos_id() const override { return bos_; }
  std::optional<int32_t> eos_id() const override { return eos_; }
  bool adds_bos() const override { return begins_with(frame_, bos_); }
  bool cuts_before_line_break() const override {
    return bpe_.cuts_before_line_break() && added_.cuts_before_line_break();
  }
  std::string format() const override { return "llama2.c"; }

 private:
  std::string own_piece(int32_t id) const {
    if (id == kBos) return "<s>";  // the files have line feeds around these two
    if (id == kEos) return "</s>";
    return id >= 0 && static_cast<size_t>(id) < pieces_.size() ? pieces_[static_cast<size_t>(id)].text : "";
  }

  int32_t find_piece(std::string_view text) const {
    for (int32_t id = 0; id < kFirstPiece; ++id) {
      if (own_piece(id) == text) return id;
    }
    return bpe_.find(text);
  }

  void add_tokens(const TokenizerConfig& config, const std::string& file) {
    const auto n = static_cast<int64_t>(pieces_.size());
    std::vector<AddedToken> tokens =
        with_named_tokens({}, config,
                          {.find = [&](std::string_view text) { return find_piece(text); },
                           .has = [&](int32_t id) { return id < n; },
                           .size = n});
    vocab_size_ = n;
    for (AddedToken& token : tokens) {
      token.normalized = false;  // the format has no normalisation
      vocab_size_ = std::max(vocab_size_, int64_t{token.id} + 1);
    }
    added_ = AddedTokens(tokens, Normalizer(), file);
    for (const int32_t id : {kBos, kEos}) {
      if (added_.by_id(id) == nullptr && added_.by_content(own_piece(id)) == nullptr) {
        tokens.push_back({.id = id, .content = own_piece(id), .special = true});
      }
    }
    added_with_ends_ = AddedTokens(std::move(tokens), Normalizer(), file);
  }

  std::vector<ScoredPiece> pieces_;
  ScoreBpe bpe_;
  std::array<int32_t, 256> byte_ids_{};
  bool add_prefix_;
  AddedTokens added_;
  AddedTokens added_with_ends_;  // the same plus BOS and EOS, which a chat template may have written as text
  int64_t vocab_size_ = 0;
  TextFrame frame_;
  int32_t bos_ = kBos;
  int32_t eos_ = kEos;
};

}  // namespace

std::unique_ptr<Tokenizer> load_llama2c(const std::string& path, int64_t config_vocab_size,
                                        const TokenizerConfig& config) {
  return parse_llama2c(read_file(path, kMaxFileBytes), path, config_vocab_size, config);
}

std::unique_ptr<Tokenizer> parse_llama2c(std::string_view bytes, const std::string& file,
                                         int64_t config_vocab_size, const TokenizerConfig& config) {
  std::vector<ScoredPiece> pieces = read_pieces(bytes, file);
  check_pieces(pieces, file, config_vocab_size);
  // llama2.c looks up merges among all pieces. Real merges never reach the texts of the specials and bytes;
  // taking them out keeps a text that spells "<0x41>" from becoming the byte 0x41.
  for (size_t id = 0; id < static_cast<size_t>(kFirstPiece); ++id) pieces[id].mergeable = false;
  return std::make_unique<Llama2cTokenizer>(std::move(pieces), config, file);
}

}  // namespace sepllm
