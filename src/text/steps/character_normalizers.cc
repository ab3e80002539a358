// Normalizers that look at each character separately: Lowercase, StripAccents, the parts of BertNormalizer,
// Nmt, ByteLevel.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>

#include "base/byte_alphabet.h"
#include "base/utf8.h"
#include "text/steps/normalizer.h"
#include "text/steps/unicode_class.h"

namespace sepllm {
namespace {

struct CodePoints {
  char32_t first, last;
  bool contains(char32_t c) const { return c >= first && c <= last; }
};

template <size_t N>
bool any_contains(const CodePoints (&ranges)[N], char32_t c) {
  return std::any_of(std::begin(ranges), std::end(ranges),
                     [c](const CodePoints& r) { return r.contains(c); });
}

// Writes what map(c, bytes of c, out) appends for each character.
template <typename Map>
class EachCharacter : public NormalizerStep {
 public:
  // `keeps_line_breaks`: line breaks are not changed, so a text may still be cut before them.
  EachCharacter(Map map, bool keeps_line_breaks) : map_(map), keeps_line_breaks_(keeps_line_breaks) {}

  bool cuts_before_line_break() const override { return keeps_line_breaks_; }
  bool apply(std::string_view in, std::string& out, RegexScratch&) const override {
    out.clear();
    int length = 0;
    for (size_t at = 0; at < in.size(); at += static_cast<size_t>(length)) {
      const char32_t c = decode_valid_utf8(in.data() + at, length);
      map_(c, in.substr(at, static_cast<size_t>(length)), out);
    }
    return true;
  }

 private:
  Map map_;
  bool keeps_line_breaks_;
};

template <typename Map>
std::unique_ptr<NormalizerStep> each_character(Map map, bool keeps_line_breaks) {
  return std::make_unique<EachCharacter<Map>>(map, keeps_line_breaks);
}

// The characters that BertNormalizer calls "chinese".
bool is_han(char32_t c) {
  static constexpr CodePoints kRanges[] = {{0x3400, 0x4DBF},   {0x4E00, 0x9FFF},   {0xF900, 0xFAFF},
                                           {0x20000, 0x2A6DF}, {0x2A700, 0x2B81F}, {0x2B920, 0x2CEAF},
                                           {0x2F800, 0x2FA1F}};
  return any_contains(kRanges, c);
}

}  // namespace

std::unique_ptr<NormalizerStep> make_class_remover(uint8_t mask) {
  const uint8_t* classes = normalizer_classes();
  return each_character(
      [=](char32_t c, std::string_view bytes, std::string& out) {
        if ((classes[c] & mask) == 0) out += bytes;
      },
      true);
}

std::unique_ptr<NormalizerStep> make_lowercase() {
  return each_character(
      [](char32_t c, std::string_view, std::string& out) {
        if (c == 0x130) {  // the only character whose lower case is two characters
          out += "i\xCC\x87";
        } else {
          utf8_append(out, to_lower_case(c));
        }
      },
      true);
}

std::unique_ptr<NormalizerStep> make_bert_cleaner() {
  const uint8_t* spaces = unicode_classes();
  const uint8_t* controls = normalizer_classes();
  return each_character(
      [=](char32_t c, std::string_view bytes, std::string& out) {
        if (c == 0 || c == 0xFFFD || (controls[c] & kControl) != 0) return;
        out += (spaces[c] & kSpace) != 0 ? std::string_view(" ") : bytes;
      },
      false);
}

std::unique_ptr<NormalizerStep> make_han_spacer() {
  return each_character(
      [](char32_t c, std::string_view bytes, std::string& out) {
        const bool han = is_han(c);
        if (han) out += ' ';
        out += bytes;
        if (han) out += ' ';
      },
      true);
}

std::unique_ptr<NormalizerStep> make_nmt() {
  static constexpr CodePoints kRemoved[] = {{0x1, 0x8},   {0xB, 0xB},   {0xE, 0x1F},
                                            {0x7F, 0x7F}, {0x8F, 0x8F}, {0x9F, 0x9F}};
  static constexpr CodePoints kBlanks[] = {{0x9, 0xA},       {0xC, 0xD},       {0x1680, 0x1680},
                                           {0x200B, 0x200F}, {0x2028, 0x2029}, {0x2581, 0x2581},
                                           {0xFEFF, 0xFEFF}, {0xFFFD, 0xFFFD}};
  return each_character(
      [](char32_t c, std::string_view bytes, std::string& out) {
        if (!any_contains(kRemoved, c)) out += any_contains(kBlanks, c) ? std::string_view(" ") : bytes;
      },
      false);
}

std::unique_ptr<NormalizerStep> make_byte_level_normalizer() {
  return each_character(
      [](char32_t, std::string_view bytes, std::string& out) { append_byte_level(out, bytes); }, false);
}

}  // namespace sepllm
