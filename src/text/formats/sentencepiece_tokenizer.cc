#include "text/formats/sentencepiece_tokenizer.h"

#include <fmt/format.h>
#include <sentencepiece_processor.h>

#include <algorithm>
#include <array>
#include <unordered_map>

#include "base/error.h"
#include "base/file.h"
#include "base/utf8.h"
#include "text/bpe/score_bpe.h"
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
  virtual bool cuts_before_line_break() const { return false; }  // as Tokenizer's
};

bool is_plain(const Model& model) {
  return model.algorithm == Model::Algorithm::kBpe && model.byte_fallback && !model.has_normaliser &&
         !model.remove_extra_whitespaces && model.escape_whitespaces && !model.whitespace_as_suffix &&
         std::none_of(model.pieces.begin(), model.pieces.end(), [](const Model::Piece& p) {
           return p.type == Type::kUserDefined || p.type == Type::kUnused;
         });
}

// Pieces are kept with blanks for blank marks, and the text's own blank marks become blanks: the library does
// the same the other way round. A character that is no piece becomes bytes before the merges, not after them;
// that is the same as long as pieces consist of characters that are pieces, as trained models' do.
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
  LibraryEncoder(const std::string& bytes, const std::string& file) {
    // The fields of a repeated message are merged, the last value counts: normalizer_spec (field 3) with
    // add_dummy_prefix (its field 3) = false.
    load(at_start_, bytes, file);
    load(inside_, bytes + std::string("\x1A\x02\x18\x00", 4), file);
  }

  void encode(std::string_view text, bool at_start, Ids& out) const override {
    if (text.empty()) return;
    Ids ids;
    const auto status = (at_start ? at_start_ : inside_).Encode({text.data(), text.size()}, &ids);
    if (!status.ok()) throw Error(ErrorCode::kInvalidArgument, "cannot encode: " + status.ToString());
    out.insert(out.end(), ids.begin(), ids.end());
  }

 private:
  static void load(sentencepiece::SentencePieceProcessor& processor, const std::string& bytes,
                   const std::string& file) {
    const auto status = processor.LoadFromSerializedProto(bytes);
    if (!status.ok()) throw Error(ErrorCode::kBadFile, status.ToString(), {.file = file});
  }

  sentencepiece::SentencePieceProcessor at_start_;
  sentencepiece::SentencePieceProcessor inside_;
};

// Finds the strings of special tokens in a text: the leftmost, of those the longest.
class SpecialStrings {
 public:
  void add(const std::string& text, int32_t id) {
    ids_.emplace(text, id);
    if (std::find(lengths_.begin(), lengths_.end(), text.size()) == lengths_.end()) {
      lengths_.push_back(text.size());
      std::sort(lengths_.rbegin(), lengths_.rend());
    }
    if (first_bytes_.find(text[0]) == std::string::npos) first_bytes_ += text[0];
  }

  struct Hit {
    size_t at, length;
    int32_t id;
  };
  std::optional<Hit> find(std::string_view text, size_t from) const {
    for (size_t at = text.find_first_of(first_bytes_, from); at != std::string_view::npos;
         at = text.find_first_of(first_bytes_, at + 1)) {
      for (const size_t length : lengths_) {
        const auto it = ids_.find(std::string(text.substr(at, length)));
        if (it != ids_.end()) return Hit{at, it->first.size(), it->second};
      }
    }
    return std::nullopt;
  }

 private:
  std::unordered_map<std::string, int32_t> ids_;
  std::vector<size_t> lengths_;  // descending
  std::string first_bytes_;
};

class SentencePieceTokenizer : public Tokenizer {
 public:
  SentencePieceTokenizer(Model model, std::unique_ptr<Encoder> encoder)
      : model_(std::move(model)), encoder_(std::move(encoder)) {
    for (size_t k = 0; k < model_.pieces.size(); ++k) {
      const auto id = static_cast<int32_t>(k);
      ids_.emplace(model_.pieces[k].text, id);
      if (is_special(id)) specials_.add(model_.pieces[k].text, id);
    }
  }

  Ids encode(std::string_view text, const EncodeOptions& options) const override {
    if (const auto bad = utf8_find_invalid(text)) {
      throw Error(ErrorCode::kInvalidArgument, "the text is not valid UTF-8",
                  {.place = fmt::format("byte {}", *bad)});
    }
    Ids ids;
    if (const auto bos = bos_id(); options.add_special && bos) ids.push_back(*bos);
    size_t at = 0;
    while (options.parse_special) {
      const auto hit = specials_.find(text, at);
      if (!hit) break;
      encoder_->encode(text.substr(at, hit->at - at), at == 0 && !options.continues, ids);
      ids.push_back(hit->id);
      at = hit->at + hit->length;
    }
    encoder_->encode(text.substr(at), at == 0 && !options.continues, ids);
    return ids;
  }

  bool cuts_before_line_break() const override {
    const auto reaches_over = [&](const auto& piece) {
      return is_special(piece.second) && piece.first.find_first_of("\r\n", 1) != std::string::npos;
    };
    return encoder_->cuts_before_line_break() && std::none_of(ids_.begin(), ids_.end(), reaches_over);
  }

  std::string token_bytes(int32_t id) const override {
    if (id < 0 || id >= vocab_size()) return "";
    const Model::Piece& piece = model_.pieces[static_cast<size_t>(id)];
    if (piece.type == Type::kByte) {
      return std::string(1, static_cast<char>(std::stoul(piece.text.substr(3, 2), nullptr, 16)));
    }
    return is_special(id) ? piece.text : replace_all(piece.text, kBlankMark, " ");
  }

  std::string piece(int32_t id) const override {
    return id >= 0 && id < vocab_size() ? model_.pieces[static_cast<size_t>(id)].text : "";
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

  int64_t vocab_size() const override { return static_cast<int64_t>(model_.pieces.size()); }

  bool is_special(int32_t id) const override {
    if (id < 0 || id >= vocab_size()) return false;
    const Type type = model_.pieces[static_cast<size_t>(id)].type;
    return type == Type::kControl || type == Type::kUnknown;
  }

  std::optional<int32_t> find(std::string_view piece) const override {
    const auto it = ids_.find(std::string(piece));
    return it == ids_.end() ? std::nullopt : std::optional(it->second);
  }

  std::optional<int32_t> bos_id() const override { return control(model_.bos_piece); }
  std::optional<int32_t> eos_id() const override { return control(model_.eos_piece); }
  bool adds_bos() const override { return bos_id().has_value(); }
  std::string format() const override { return "SentencePiece"; }

 private:
  std::optional<int32_t> control(const std::string& piece) const {
    const auto id = find(piece);
    return id && is_special(*id) ? id : std::nullopt;
  }

  Model model_;
  std::unique_ptr<Encoder> encoder_;
  std::unordered_map<std::string, int32_t> ids_;
  SpecialStrings specials_;
};

}  // namespace

std::unique_ptr<Tokenizer> load_sentencepiece(const std::string& path) {
  return parse_sentencepiece(read_file(path, kMaxFileBytes), path);
}

std::unique_ptr<Tokenizer> parse_sentencepiece(const std::string& bytes, const std::string& file) {
  Model model = parse_sentencepiece_model(bytes, file);
  std::unique_ptr<Encoder> encoder;
  if (is_plain(model)) {
    encoder = std::make_unique<PlainEncoder>(model, file);
  } else {
    encoder = std::make_unique<LibraryEncoder>(bytes, file);
  }
  return std::make_unique<SentencePieceTokenizer>(std::move(model), std::move(encoder));
}

}  // namespace sepllm
