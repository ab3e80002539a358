#include "text/formats/sentencepiece_model.h"

#include <fmt/format.h>

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "base/error.h"
#include "base/utf8.h"

namespace sepllm {
namespace {

using Model = SentencePieceModel;

enum class Wire { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

struct Field {
  uint64_t number;
  Wire wire;
  uint64_t integer;        // kVarint
  float real;              // kFixed32
  std::string_view bytes;  // kBytes
  size_t place;            // offset in the file
};

// Reads the fields of one message in order; nullopt at its end or, with failed() then true, at a fault.
class Message {
 public:
  explicit Message(std::string_view bytes, size_t place = 0) : bytes_(bytes), base_(place) {}

  bool failed() const { return failed_; }
  size_t place() const { return base_ + at_; }

  std::optional<Field> next() {
    if (failed_ || at_ == bytes_.size()) return std::nullopt;
    Field field{0, Wire::kVarint, 0, 0, {}, place()};
    const auto tag = varint();
    if (tag && (*tag >> 3) != 0 && read_value(*tag & 7, field)) {
      field.number = *tag >> 3;
      return field;
    }
    failed_ = true;
    return std::nullopt;
  }

 private:
  std::optional<uint64_t> varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64 && at_ < bytes_.size(); shift += 7) {
      const auto byte = static_cast<unsigned char>(bytes_[at_++]);
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    return std::nullopt;
  }

  bool skip(uint64_t n) {
    if (n > bytes_.size() - at_) return false;
    at_ += static_cast<size_t>(n);
    return true;
  }

  bool read_value(uint64_t wire, Field& field) {
    field.wire = static_cast<Wire>(wire);
    const auto is = [&](Wire w) { return field.wire == w; };
    if (is(Wire::kFixed64)) return skip(8);
    if (is(Wire::kFixed32)) {
      if (!skip(4)) return false;
      std::memcpy(&field.real, bytes_.data() + at_ - 4, 4);
      return true;
    }
    if (!is(Wire::kVarint) && !is(Wire::kBytes)) return false;  // groups are not used by these models
    const auto value = varint();
    if (!value) return false;
    field.integer = *value;
    if (is(Wire::kVarint)) return true;
    field.place = place();
    if (!skip(*value)) return false;
    field.bytes = bytes_.substr(at_ - static_cast<size_t>(*value), static_cast<size_t>(*value));
    return true;
  }

  std::string_view bytes_;
  size_t base_;
  size_t at_ = 0;
  bool failed_ = false;
};

class Parser {
 public:
  explicit Parser(const std::string& file) : file_(file) {}

  Model parse(std::string_view bytes) {
    for_each_field(bytes, 0, [&](const Field& f) {
      if (f.number == 1) piece(text_of(f), f.place);
      if (f.number == 2) trainer(text_of(f), f.place);
      if (f.number == 3) normaliser(text_of(f), f.place);
    });
    check();
    return std::move(model_);
  }

 private:
  [[noreturn]] void fail(const std::string& message, size_t place) const {
    throw Error(ErrorCode::kBadFile, message, {.file = file_, .place = fmt::format("byte {}", place)});
  }

  template <typename F>
  void for_each_field(std::string_view bytes, size_t place, F&& fn) {
    Message message(bytes, place);
    while (const auto field = message.next()) fn(*field);
    if (message.failed()) fail("not a SentencePiece model: malformed protocol buffer", message.place());
  }

  void want(const Field& field, Wire wire) const {
    if (field.wire != wire) {
      fail(fmt::format("not a SentencePiece model: field {} has the wrong type", field.number), field.place);
    }
  }
  std::string_view text_of(const Field& field) const {
    want(field, Wire::kBytes);
    return field.bytes;
  }
  bool flag_of(const Field& field) const {
    want(field, Wire::kVarint);
    return field.integer != 0;
  }

  void piece(std::string_view bytes, size_t place) {
    Model::Piece piece;
    for_each_field(bytes, place, [&](const Field& f) {
      if (f.number == 1) piece.text = text_of(f);
      if (f.number == 2) {
        want(f, Wire::kFixed32);
        piece.score = f.real;
      }
      if (f.number == 3) {
        want(f, Wire::kVarint);
        if (f.integer < 1 || f.integer > 6) fail("unknown type of a piece", f.place);
        piece.type = static_cast<Model::Type>(f.integer);
      }
    });
    if (piece.text.empty()) fail("empty piece", place);
    if (utf8_find_invalid(piece.text)) fail("piece is not valid UTF-8", place);
    if (!seen_.insert(piece.text).second) fail("piece '" + piece.text + "' occurs twice", place);
    if (piece.type == Model::Type::kByte) byte_piece(piece.text, place);
    if (piece.type == Model::Type::kUnknown) ++n_unknown_;
    model_.pieces.push_back(std::move(piece));
  }

  void byte_piece(const std::string& text, size_t place) {
    const auto is_hex = [](char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F'); };
    if (text.size() != 6 || text.substr(0, 3) != "<0x" || !is_hex(text[3]) || !is_hex(text[4]) ||
        text[5] != '>') {
      fail("byte piece '" + text + "' is not of the form <0xNN>", place);
    }
    ++n_bytes_;
  }

  void trainer(std::string_view bytes, size_t place) {
    for_each_field(bytes, place, [&](const Field& f) {
      if (f.number == 3) {
        want(f, Wire::kVarint);
        if (f.integer < 1 || f.integer > 4) fail("unknown kind of model", f.place);
        model_.algorithm = static_cast<Model::Algorithm>(f.integer);
      }
      if (f.number == 24) model_.whitespace_as_suffix = flag_of(f);
      if (f.number == 35) model_.byte_fallback = flag_of(f);
      if (f.number == 46) model_.bos_piece = text_of(f);
      if (f.number == 47) model_.eos_piece = text_of(f);
    });
  }

  void normaliser(std::string_view bytes, size_t place) {
    for_each_field(bytes, place, [&](const Field& f) {
      if (f.number == 2) model_.has_normaliser = !text_of(f).empty();
      if (f.number == 3) model_.add_dummy_prefix = flag_of(f);
      if (f.number == 4) model_.remove_extra_whitespaces = flag_of(f);
      if (f.number == 5) model_.escape_whitespaces = flag_of(f);
    });
  }

  void check() const {
    const auto wrong = [&](const std::string& message, const std::string& expected, int got) {
      throw Error(ErrorCode::kBadFile, message,
                  {.file = file_, .expected = expected, .got = std::to_string(got)});
    };
    if (model_.pieces.empty()) throw Error(ErrorCode::kBadFile, "no pieces in the model", {.file = file_});
    if (n_unknown_ != 1) wrong("wrong number of unknown pieces", "1", n_unknown_);
    if (model_.byte_fallback && n_bytes_ != 256) wrong("byte pieces are missing", "256", n_bytes_);
  }

  const std::string& file_;
  Model model_;
  std::unordered_set<std::string> seen_;
  int n_unknown_ = 0;
  int n_bytes_ = 0;
};

}  // namespace

bool looks_like_sentencepiece(std::string_view bytes) {
  const auto first = Message(bytes.substr(0, 1 << 20)).next();
  if (!first || first->number != 1 || first->wire != Wire::kBytes) return false;
  const auto piece = Message(first->bytes).next();
  return piece && piece->number == 1 && piece->wire == Wire::kBytes;
}

SentencePieceModel parse_sentencepiece_model(std::string_view bytes, const std::string& file) {
  return Parser(file).parse(bytes);
}

}  // namespace sepllm
