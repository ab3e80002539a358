#include "text/steps/word_scanners.h"

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "text/steps/unicode_class.h"

namespace sepllm {

const char* const kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
const char* const kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

namespace {

// The same with possessive quantifiers (which change nothing here), and with single digits.
const char* const kCl100kPattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const char* const kOneDigitPattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

bool is_newline(char c) { return c == '\n' || c == '\r'; }

// The length of 's 't 'm 'd 're 've 'll at `p`, including the apostrophe; 0 if there is none.
size_t contraction(const char* p, const char* end) {
  if (end - p < 2) return 0;
  if (p[1] == 's' || p[1] == 't' || p[1] == 'm' || p[1] == 'd') return 2;
  if (end - p < 3) return 0;
  if (p[2] == 'e' && (p[1] == 'r' || p[1] == 'v')) return 3;
  return p[1] == 'l' && p[2] == 'l' ? 3 : 0;
}

// The same in any case; U+017F (long s) counts as an s.
size_t contraction_any_case(const char* p, const char* end) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  if (end - p >= 3 && p[1] == '\xC5' && p[2] == '\xBF') return 3;
  const char folded[3] = {'\'', end - p > 1 ? lower(p[1]) : '\0', end - p > 2 ? lower(p[2]) : '\0'};
  return contraction(folded, folded + (end - p < 3 ? end - p : 3));
}

// \s+(?!\S)|\s+ : white space up to the last one before a word, because that word may take it.
const char* white_space_end(const char* p, const char* run_end, const char* end) {
  if (run_end == end) return run_end;
  const char* last = previous_char(run_end);
  return last > p ? last : run_end;
}

const char* skip_newlines(const char* p, const char* end) {
  while (p < end && is_newline(*p)) ++p;
  return p;
}

const char* skip_numbers(const char* p, const char* end, const uint8_t* classes, int limit) {
  for (int n = 0; n < limit && p < end; ++n) {
    int length = 0;
    if ((classes[decode_valid_utf8(p, length)] & kNumber) == 0) break;
    p += length;
  }
  return p;
}

// \s*[\r\n]+|\s+(?!\S)|\s+ at white space `p`.
const char* llama3_white_space_end(const char* p, const char* end, const uint8_t* classes) {
  const char* run_end = skip_class(p, end, classes, kSpace);
  for (const char* q = run_end; q > p; --q) {
    if (is_newline(q[-1])) return q;
  }
  return white_space_end(p, run_end, end);
}

size_t llama3_scanner(std::string_view text, size_t at) { return llama3_word_end(text, at, 3); }
size_t one_digit_scanner(std::string_view text, size_t at) { return llama3_word_end(text, at, 1); }

}  // namespace

size_t gpt2_word_end(std::string_view text, size_t at) {
  static const uint8_t* const classes = unicode_classes();
  const char* const p = text.data() + at;
  const char* const end = text.data() + text.size();
  if (*p == '\'') {
    if (const size_t n = contraction(p, end); n > 0) return at + n;
  }
  const char* const q = *p == ' ' && p + 1 < end ? p + 1 : p;
  int length = 0;
  const uint8_t flags = classes[decode_valid_utf8(q, length)] & (kLetter | kNumber | kOther);
  const char* const word_end = flags != 0 ? skip_class(q + length, end, classes, flags)
                                          : white_space_end(p, skip_class(p, end, classes, kSpace), end);
  return static_cast<size_t>(word_end - text.data());
}

size_t llama3_word_end(std::string_view text, size_t at, int max_digits) {
  static const uint8_t* const classes = unicode_classes();
  const char* const p = text.data() + at;
  const char* const end = text.data() + text.size();
  const auto offset = [&](const char* q) { return static_cast<size_t>(q - text.data()); };
  if (*p == '\'') {
    if (const size_t n = contraction_any_case(p, end); n > 0) return at + n;
  }
  int length = 0;
  const uint8_t flags = classes[decode_valid_utf8(p, length)];
  const char* const next = p + length;
  if ((flags & kLetter) != 0) return offset(skip_class(next, end, classes, kLetter));
  if ((flags & kNumber) != 0) return offset(skip_numbers(p, end, classes, max_digits));
  int next_length = 0;
  const uint8_t next_flags = next < end ? classes[decode_valid_utf8(next, next_length)] : 0;
  if ((next_flags & kLetter) != 0 && !is_newline(*p)) {
    return offset(skip_class(next + next_length, end, classes, kLetter));
  }
  if ((flags & kOther) != 0) return offset(skip_newlines(skip_class(next, end, classes, kOther), end));
  if (*p == ' ' && (next_flags & kOther) != 0) {
    return offset(skip_newlines(skip_class(next + next_length, end, classes, kOther), end));
  }
  return offset(llama3_white_space_end(p, end, classes));
}

WordScanner find_word_scanner(std::string_view pattern) {
  if (pattern == kGpt2Pattern) return gpt2_word_end;
  if (pattern == kLlama3Pattern || pattern == kCl100kPattern) return llama3_scanner;
  if (pattern == kOneDigitPattern) return one_digit_scanner;
  return nullptr;
}

}  // namespace sepllm
