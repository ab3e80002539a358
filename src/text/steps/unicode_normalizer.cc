#include <utf8proc.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "base/utf8.h"
#include "text/steps/normalizer.h"
#include "text/steps/unicode_class.h"

namespace sepllm {
namespace {

int options_of(NormalForm form) {
  switch (form) {
    case NormalForm::kNfc:
      return UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    case NormalForm::kNfd:
      return UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
    case NormalForm::kNfkc:
      return UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT;
    case NormalForm::kNfkd:
      return UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT;
  }
  SEPLLM_CHECK(false);
}

// The characters of Unicode 9.0 have the same normal form in every later version, by the standard's stability
// policy. Newer characters, which utf8proc knows, are cut out before it sees the text.
class UnicodeNormalizer : public NormalizerStep {
 public:
  explicit UnicodeNormalizer(NormalForm form)
      : options_(static_cast<utf8proc_option_t>(options_of(form))), composed_(form == NormalForm::kNfc) {}

  bool cuts_before_line_break() const override { return true; }
  bool apply(std::string_view in, std::string& out, RegexScratch&) const override {
    size_t unsafe = next_unsafe(in, 0);
    if (unsafe == in.size()) return false;
    out.clear();
    size_t done = 0;
    while (unsafe < in.size()) {
      const size_t begin = unit_begin(in, done, unsafe);
      const size_t end = next_safe(in, unsafe);
      out += in.substr(done, begin - done);
      append_normal_form(in.substr(begin, end - begin), out);
      done = end;
      unsafe = next_unsafe(in, end);
    }
    out += in.substr(done);
    return true;
  }

 private:
  bool safe(char32_t c) const {
    return c < 0x80 || (composed_ && is_nfc_inert(c)) || (classes_[c] & kNotNormalized) != 0;
  }

  // A unit begins at the character before `unsafe`, which it may join, unless that character is done already
  // or too new.
  size_t unit_begin(std::string_view text, size_t done, size_t unsafe) const {
    if (unsafe == done) return unsafe;
    const char* before = previous_char(text.data() + unsafe);
    int length = 0;
    if ((classes_[decode_valid_utf8(before, length)] & kNotNormalized) != 0) return unsafe;
    return static_cast<size_t>(before - text.data());
  }

  size_t next_unsafe(std::string_view text, size_t at) const {
    // Below U+0300 (lead byte 0xCC) everything is safe in NFC, below U+0080 in all forms.
    const unsigned char first = composed_ ? 0xCC : 0x80;
    for (;;) {
      while (at < text.size() && static_cast<unsigned char>(text[at]) < first) ++at;
      if (at >= text.size()) return text.size();
      int length = 0;
      if (!safe(decode_valid_utf8(text.data() + at, length))) return at;
      at += static_cast<size_t>(length);
    }
  }

  size_t next_safe(std::string_view text, size_t at) const {
    int length = 0;
    for (; at < text.size(); at += static_cast<size_t>(length)) {
      if (safe(decode_valid_utf8(text.data() + at, length))) return at;
    }
    return text.size();
  }

  void append_normal_form(std::string_view text, std::string& out) const {
    const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
    const auto size = static_cast<utf8proc_ssize_t>(text.size());
    std::vector<utf8proc_int32_t> points(text.size() + 16);
    auto n = utf8proc_decompose(bytes, size, points.data(), static_cast<utf8proc_ssize_t>(points.size()),
                                options_);
    SEPLLM_CHECK(n >= 0);
    if (static_cast<size_t>(n) > points.size()) {
      points.resize(static_cast<size_t>(n));
      n = utf8proc_decompose(bytes, size, points.data(), n, options_);
      SEPLLM_CHECK(n >= 0);
    }
    n = utf8proc_normalize_utf32(points.data(), n, options_);
    SEPLLM_CHECK(n >= 0);
    for (utf8proc_ssize_t k = 0; k < n; ++k)
      utf8_append(out, static_cast<char32_t>(points[static_cast<size_t>(k)]));
  }

  utf8proc_option_t options_;
  bool composed_;
  const uint8_t* classes_ = normalizer_classes();
};

}  // namespace

bool is_nfc_inert(char32_t c) {
  struct Range {
    char32_t first, last;
  };
  // Latin-1 to IPA, Cyrillic, dashes and quotes, Hiragana, Katakana, CJK, Hangul syllables, full-width forms.
  static constexpr Range kRanges[] = {{0, 0x2FF},       {0x400, 0x482},   {0x2010, 0x2027}, {0x2030, 0x205E},
                                      {0x3041, 0x3096}, {0x30A1, 0x30FA}, {0x3400, 0x4DBF}, {0x4E00, 0x9FFF},
                                      {0xAC00, 0xD7A3}, {0xFF01, 0xFF5E}};
  return std::any_of(std::begin(kRanges), std::end(kRanges),
                     [c](const Range& r) { return c >= r.first && c <= r.last; });
}

std::unique_ptr<NormalizerStep> make_unicode_normalizer(NormalForm form) {
  return std::make_unique<UnicodeNormalizer>(form);
}

}  // namespace sepllm
