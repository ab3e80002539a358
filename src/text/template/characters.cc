#include "text/template/characters.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/utf8.h"

namespace sepllm::jinja {
namespace {

struct SeveralLetters {
  char32_t c;
  const char* upper;
  const char* title;
};
struct CodePointRange {
  char32_t first, last;
};

#include "text/template/letter_cases.inc"

template <size_t n>
bool in_ranges(const CodePointRange (&ranges)[n], char32_t c) {
  const auto* after = std::upper_bound(std::begin(ranges), std::end(ranges), c,
                                       [](char32_t a, const CodePointRange& r) { return a < r.first; });
  return after != std::begin(ranges) && c <= std::prev(after)->last;
}

utf8proc_category_t category(char32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)); }

bool has_case(char32_t c) {
  const auto kind = category(c);
  return kind == UTF8PROC_CATEGORY_LU || kind == UTF8PROC_CATEGORY_LL || kind == UTF8PROC_CATEGORY_LT ||
         in_ranges(kOtherCased, c);
}

// Unicode's Case_Ignorable: characters that may stand between a letter and the end of its word.
bool is_case_ignorable(char32_t c) {
  constexpr std::u32string_view kInWords =
      U"'.:\u00B7\u0387\u055F\u05F4\u2018\u2019\u2024\u2027\uFE13\uFE52"
      U"\uFE55\uFF07\uFF0E\uFF1A";
  switch (category(c)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
      return true;
    default:
      return kInWords.find(c) != std::u32string_view::npos;
  }
}

void append_mapped(std::string& out, char32_t c, LetterCase letter_case) {
  const auto point = static_cast<utf8proc_int32_t>(c);
  if (letter_case == LetterCase::kLower) {
    if (c == 0x130) {  // the only character that becomes two in lower case
      out += "i\xCC\x87";
    } else {
      utf8_append(out, static_cast<char32_t>(utf8proc_tolower(point)));
    }
    return;
  }
  const bool upper = letter_case == LetterCase::kUpper;
  const auto* several = std::lower_bound(std::begin(kSeveralLetters), std::end(kSeveralLetters), c,
                                         [](const SeveralLetters& s, char32_t x) { return s.c < x; });
  if (several != std::end(kSeveralLetters) && several->c == c) {
    out += upper ? several->upper : several->title;
  } else {
    utf8_append(out, static_cast<char32_t>(upper ? utf8proc_toupper(point) : utf8proc_totitle(point)));
  }
}

// Whether the sigma at `at` ends a word: then its lower case is another letter.
class FinalSigma {
 public:
  FinalSigma(std::string_view text, const std::vector<size_t>& starts) : text_(text), starts_(starts) {
    // Goes once from right to left: whether a letter with case follows, not counting characters that words
    // may contain.
    follows_.resize(starts.size(), false);
    for (size_t k = starts.size() - 1; k-- > 1;) {
      const char32_t c = at(k);
      follows_[k - 1] = is_case_ignorable(c) ? follows_[k] : has_case(c);
    }
  }
  bool ends_word(size_t k) const {
    if (follows_[k]) return false;
    while (k-- > 0) {
      if (!is_case_ignorable(at(k))) return has_case(at(k));
    }
    return false;
  }

 private:
  char32_t at(size_t k) const {
    size_t length;
    return code_point_at(text_, starts_[k], length);
  }
  std::string_view text_;
  const std::vector<size_t>& starts_;
  std::vector<bool> follows_;
};

constexpr char32_t kSigma = 0x3A3;

}  // namespace

char32_t code_point_at(std::string_view text, size_t at, size_t& length) {
  const auto c = utf8_decode(text.substr(at, 4));
  length = c ? static_cast<size_t>(c->length) : 1;
  return c ? c->code_point : 0xFFFD;
}

std::vector<size_t> code_points(std::string_view text, Budget& budget) {
  budget.step(static_cast<int64_t>(text.size() / 16));
  std::vector<size_t> starts;
  for (size_t at = 0; at < text.size(); ++at) {
    if ((static_cast<unsigned char>(text[at]) & 0xC0) != 0x80) starts.push_back(at);
  }
  starts.push_back(text.size());
  return starts;
}

int64_t count_code_points(std::string_view text, Budget& budget) {
  budget.read(text.size());
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

bool is_space(char32_t c) {
  return (c >= 0x9 && c <= 0xD) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

bool is_alpha(char32_t c) {
  const auto kind = category(c);
  return kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_LO;
}

bool is_decimal(char32_t c) { return category(c) == UTF8PROC_CATEGORY_ND; }
bool is_digit(char32_t c) { return is_decimal(c) || in_ranges(kOtherDigits, c); }

bool is_numeric(char32_t c) {
  const auto kind = category(c);
  return kind == UTF8PROC_CATEGORY_ND || kind == UTF8PROC_CATEGORY_NL || kind == UTF8PROC_CATEGORY_NO;
}

bool is_printable(char32_t c) {
  if (c == ' ') return true;
  switch (category(c)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
      return false;
    default:
      return true;
  }
}

namespace {

// `steps`: the cost of asking whether one character is dropped.
template <typename Dropped>
Stripped strip_where(std::string_view text, Sides sides, int64_t steps, Budget& budget,
                     const Dropped& dropped) {
  Stripped out{0, text.size()};
  size_t length;
  while (sides != Sides::kRight && out.begin < out.end && dropped(code_point_at(text, out.begin, length))) {
    budget.step(steps);
    out.begin += length;
  }
  while (sides != Sides::kLeft && out.end > out.begin) {
    size_t last = out.end - 1;
    while (last > out.begin && (static_cast<unsigned char>(text[last]) & 0xC0) == 0x80) --last;
    if (!dropped(code_point_at(text, last, length))) break;
    budget.step(steps);
    out.end = last;
  }
  return out;
}

}  // namespace

Stripped strip(std::string_view text, Sides sides, Budget& budget) {
  return strip_where(text, sides, 1, budget, is_space);
}

Stripped strip(std::string_view text, std::string_view characters, Sides sides, Budget& budget) {
  budget.make(characters.size() * sizeof(char32_t));
  std::u32string set;
  for (size_t at = 0, length = 0; at < characters.size(); at += length) {
    set += code_point_at(characters, at, length);
  }
  const auto steps = static_cast<int64_t>(1 + set.size() / 16);
  budget.step(2 * steps);
  return strip_where(text, sides, steps, budget,
                     [&](char32_t c) { return set.find(c) != std::u32string::npos; });
}

MarkedText with_case(const MarkedText& text, LetterCase letter_case, Budget& budget) {
  const std::string& bytes = text.bytes();
  budget.make(2 * bytes.size());
  const std::vector<size_t> starts = code_points(bytes, budget);
  budget.step(static_cast<int64_t>(starts.size() / 2));
  std::optional<FinalSigma> sigma;
  MarkedText out;
  std::string mapped;
  bool in_word = false;  // whether the character before has case
  for (size_t k = 0; k + 1 < starts.size(); ++k) {
    size_t length;
    const char32_t c = code_point_at(bytes, starts[k], length);
    LetterCase own = letter_case;
    if (letter_case == LetterCase::kTitle && in_word) own = LetterCase::kLower;
    if (letter_case == LetterCase::kCapitalized) own = k == 0 ? LetterCase::kTitle : LetterCase::kLower;
    in_word = letter_case == LetterCase::kTitle && has_case(c);
    mapped.clear();
    if (own == LetterCase::kLower && c == kSigma) {
      if (!sigma) sigma.emplace(bytes, starts);
      mapped = sigma->ends_word(k) ? "\xCF\x82" : "\xCF\x83";
    } else {
      append_mapped(mapped, c, own);
    }
    out.append(mapped, text.origin_at(starts[k]));
  }
  return out;
}

}  // namespace sepllm::jinja
