#include "text/formats/sentencepiece_tokenizer.h"

#include <fmt/format.h>
#include <sentencepiece_processor.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/utf8.h"
#include "text/bpe/score_bpe.h"
#include "text/formats/named_tokens.h"
#include "text/formats/sentencepiece_model.h"

namespace sepllm {
namespace {

using Model = SentencePieceModel;
using Type = Model::Type;
using Ids = std::vector<int32_t>;

constexpr uint64_t kMaxFileBytes = uint64_t{1} << 28;
constexpr std::string_view kBlankMark = "\xE2\x96\x81";  // U+2581 stands for a blank

std::string replace_all(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0;;) {
    const size_t hit = text.find(from, at);
    out += text.substr(at, hit - at);
    if (hit == std::string_view::npos) return out;
    out += to;
    at = hit + from.size();
  }
}

// Encodes text between special strings.
class Encoder {
 public:
  virtual ~Encoder() = default;
  virtual void encode(std::string_view text, bool at_start, Ids& out) const = 0;
  virtual bool cuts_before_line_break() const { return false; }  // see Tokenizer
};

bool is_plain(const Model& model) {
  return model.algorithm == Model::Algorithm::kBpe && model.byte_fallback && !model.has_normaliser &&
         !model.remove_extra_whitespaces && model.escape_whitespaces && !model.whitespace_as_suffix &&
         std::none_of(model.pieces.begin(), model.pieces.end(), [](const Model::Piece& p) {
           return p.type == Type::kUserDefined || p.type == Type::kUnused;
         });
}

// Pieces are stored with blanks in place of blank marks, and the text's own blank marks become blanks: the
// library does the same the other way round. A character that is not a piece becomes bytes before the merges,
// not after them; the result is the same as long as pieces consist of characters that are pieces, which is so
// in trained models.
class PlainEncoder : public Encoder {
 public:
  PlainEncoder(const Model& model, const std::string& file)
      : bpe_(scored_pieces(model), file), add_blank_(model.add_dummy_prefix) {
    for (size_t id = 0; id < model.pieces.size(); ++id) {
      if (model.pieces[id].type != Type::kByte) continue;
      byte_ids_[std::stoul(model.pieces[id].text.substr(3, 2), nullptr, 16)] = static_cast<int32_t>(id);
    }
  }

  void encode(std::string_view text, bool at_start, Ids& out) const override {
    if (text.empty()) return;
    const bool add = add_blank_ && at_start;
    if (!add && text.find(kBlankMark) == std::string_view::npos) {
      bpe_.encode(text, byte_ids_, out);
      return;
    }
    std::string whole(add ? 1 : 0, ' ');
    whole += replace_all(text, kBlankMark, " ");
    bpe_.encode(whole, byte_ids_, out);
  }

  bool cuts_before_line_break() const override { return bpe_.cuts_before_line_break(); }

 private:
  static std::vector<ScoredPiece> scored_pieces(const Model& model) {
    std::vector<ScoredPiece> pieces;
    for (const Model::Piece& p : model.pieces) {
      pieces.push_back({replace_all(p.text, kBlankMark, " "), p.score, p.type == Type::kNormal});
    }
    return pieces;
  }

  ScoreBpe bpe_;
  std::array<int32_t, 256> byte_ids_{};
  bool add_blank_;
};

class LibraryEncoder : public Encoder {
 public:
  LibraryEncoder(const std::string& bytes, bool add_prefix, const std::string& file) {
    load(at_start_, bytes + prefix_field(add_prefix), file);
    load(inside_, bytes + prefix_field(false), file);
  }

  void encode(std::string_view text, bool at_start, Ids& out) const override {
    if (text.empty()) return;
    Ids ids;
    const auto status = (at_start ? at_start_ : inside_).Encode({text.data(), text.size()}, &ids);
    if (!status.ok()) throw Error(ErrorCode::kInvalidArgument, "cannot encode: " + status.ToString());
    out.insert(out.end(), ids.begin(), ids.end());
  }

 private:
  // When a protocol buffer has a field twice, messages are merged and the last value counts; so this can be
  // appended to a model: normalizer_spec (field 3) with add_dummy_prefix (its field 3).
  static std::string prefix_field(bool add) { return {'\x1A', '\x02', '\x18', add ? '\x01' : '\x00'}; }

  static void load(sentencepiece::SentencePieceProcessor& processor, const std::string& bytes,
                   const std::string& file) {
    const auto status = processor.LoadFromSerializedProto(bytes);
    if (!status.ok()) throw Error(ErrorCode::kBadFile, status.ToString(), {.file = file});
  }

  sentencepiece::SentencePieceProcessor at_start_;
  sentencepiece::SentencePieceProcessor inside_;
};

// Control pieces and the unknown piece are special tokens, found in a text by their strings.
std::vector<AddedToken> control_tokens(const Model& model) {
  std::vector<AddedToken> tokens;
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const Model::Piece& piece = model.pieces[id];
    if (piece.type != Type::kControl && piece.type != Type::kUnknown) continue;
    tokens.push_back({.id = static_cast<int32_t>(id), .content = piece.text, .special = true});
  }
  return tokens;
}

class SentencePieceTokenizer : public Tokenizer {
 public:
  SentencePieceTokenizer(Model model, std::unique_ptr<Encoder> encoder, const TokenizerConfig& config,
                         const std::string& file)
      : model_(std::move(model)),
        encoder_(std::move(encoder)),
        prefix_everywhere_(config.prefix_everywhere && model_.add_dummy_prefix) {
    for (size_t k = 0; k < model_.pieces.size(); ++k) {
      ids_.emplace(model_.pieces[k].text, static_cast<int32_t>(k));
    }
    add_tokens(config, file);
    bos_ = choose_id(config.bos, model_.bos_piece);
    eos_ = choose_id(config.eos, model_.eos_piece);
    if (bos_) frame_.before.push_back(*bos_);
    adapt_frame(frame_, config, bos_, eos_);
    set_chat_templates(config.chat_templates);
    set_token_texts(config.token_texts);
  }

  Ids encode(std::string_view text, const EncodeOptions& options) const override {
    if (const auto bad = utf8_find_invalid(text)) {
      throw Error(ErrorCode::kInvalidArgument, "the text is not valid UTF-8",
                  {.place = fmt::format("byte {}", *bad)});
    }
    Ids ids;
    if (options.add_special) ids = frame_.before;
    added_.split(text, false, {options.parse_special, options.special_within}, [&](const Section& section) {
      if (section.id >= 0) return ids.push_back(section.id);
      const bool first = section.text.data() == text.data();
      const bool at_start = first ? !options.continues : prefix_everywhere_;
      encoder_->encode(section.text, at_start, ids);
    });
    if (options.add_special) ids.insert(ids.end(), frame_.after.begin(), frame_.after.end());
    return ids;
  }

  bool cuts_before_line_break() const override {
    return encoder_->cuts_before_line_break() && added_.cuts_before_line_break() &&
           !(prefix_everywhere_ && added_.any_ends_in_letter());
  }

  std::string token_bytes(int32_t id) const override {
    if (const AddedToken* token = added_.by_id(id)) return token->content;
    if (!is_piece(id)) return "";
    const Model::Piece& piece = model_.pieces[static_cast<size_t>(id)];
    if (piece.type == Type::kByte) {
      return std::string(1, static_cast<char>(std::stoul(piece.text.substr(3, 2), nullptr, 16)));
    }
    return replace_all(piece.text, kBlankMark, " ");
  }

  std::string piece(int32_t id) const override {
    if (const AddedToken* token = added_.by_id(id)) return token->content;
    return is_piece(id) ? model_.pieces[static_cast<size_t>(id)].text : "";
  }

  std::string decode(const Ids& ids, bool skip_special) const override {
    std::string out;
    bool at_start = model_.add_dummy_prefix;
    for (const int32_t id : ids) {
      if (skip_special && is_special(id)) continue;
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
    return token != nullptr && token->special;
  }

  std::optional<int32_t> find(std::string_view piece) const override {
    if (const AddedToken* token = added_.by_content(piece)) return token->id;
    const auto it = ids_.find(std::string(piece));
    // A piece whose id has been given to a token of another name no longer exists.
    return it == ids_.end() || added_.by_id(it->second) != nullptr ? std::nullopt : std::optional(it->second);
  }

  std::optional<int32_t> bos_id() const override { return bos_; }
  std::optional<int32_t> eos_id() const override { return eos_; }
  bool adds_bos() const override { return begins_with(frame_, bos_); }
  std::string format() const override { return "SentencePiece"; }

 private:
  bool is_piece(int32_t id) const { return id >= 0 && static_cast<size_t>(id) < model_.pieces.size(); }

  void add_tokens(const TokenizerConfig& config, const std::string& file) {
    const auto find_piece = [&](std::string_view text) {
      const auto it = ids_.find(std::string(text));
      return it == ids_.end() ? -1 : it->second;
    };
    const auto has_piece = [&](int32_t id) {
      return is_piece(id) && model_.pieces[static_cast<size_t>(id)].type != Type::kUnused;
    };
    std::vector<AddedToken> tokens = with_named_tokens(control_tokens(model_), config,
                                                       {.find = find_piece,
                                                        .has = has_piece,
                                                        .size = static_cast<int64_t>(model_.pieces.size()),
                                                        .renames = true});
    vocab_size_ = static_cast<int64_t>(model_.pieces.size());
    for (AddedToken& token : tokens) {
      token.normalized = false;  // the model normalises the text between the tokens
      vocab_size_ = std::max(vocab_size_, int64_t{token.id} + 1);
    }
    added_ = AddedTokens(std::move(tokens), Normalizer(), file);
  }

  // Chosen by the name that the files next to the model give, else by the model's own name, else by its id.
  std::optional<int32_t> choose_id(const SpecialTokenChoice& choice, const std::string& own) const {
    if (choice.text) {
      if (const auto id = find(*choice.text)) return id;
    }
    if (const auto id = find(own); id && is_special(*id)) return id;
    if (choice.id && *choice.id >= 0 && *choice.id < vocab_size_) return static_cast<int32_t>(*choice.id);
    return std::nullopt;
  }

  Model model_;
  std::unique_ptr<Encoder> encoder_;
  bool prefix_everywhere_;
  std::unordered_map<std::string, int32_t> ids_;
  AddedTokens added_;
  int64_t vocab_size_ = 0;
  TextFrame frame_;
  std::optional<int32_t> bos_, eos_;
};

}  // namespace

std::unique_ptr<Tokenizer> load_sentencepiece(const std::string& path) {
  return parse_sentencepiece(read_file(path, kMaxFileBytes), path);
}

std::unique_ptr<Tokenizer> parse_sentencepiece(const std::string& bytes, const std::string& file,
                                               const TokenizerConfig& config) {
  Model model = parse_sentencepiece_model(bytes, file);
  model.add_dummy_prefix = config.add_prefix_space.value_or(model.add_dummy_prefix);
  std::unique_ptr<Encoder> encoder;
  if (is_plain(model)) {
    encoder = std::make_unique<PlainEncoder>(model, file);
  } else {
    encoder = std::make_unique<LibraryEncoder>(bytes, model.add_dummy_prefix, file);
  }
  return std::make_unique<SentencePieceTokenizer>(std::move(model), std::move(encoder), config, file);
}

}  // namespace sepllm
