#include "text/steps/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "text/steps/oniguruma.h"

namespace sepllm {
namespace {

constexpr uint32_t kMatchLimit = 10'000'000;
constexpr uint32_t kHeapLimitKib = 1u << 18;

std::string message_of(int code) {
  PCRE2_UCHAR buffer[256];
  pcre2_get_error_message(code, buffer, sizeof buffer);
  return reinterpret_cast<const char*>(buffer);
}

}  // namespace

// One of the two compiled forms of a pattern.
class Regex::Form {
 public:
  Form(const std::string& translated, const std::string& file, const std::string& place,
       const std::string& pattern);
  ~Form() {
    pcre2_code_free(code_);
    pcre2_match_context_free(context_);
  }
  Form(const Form&) = delete;
  Form& operator=(const Form&) = delete;

  // Returns PCRE2's result.
  int match(std::string_view text, size_t from, pcre2_match_data* data) const {
    const auto run = [&](uint32_t options) {
      return pcre2_match(code_, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                         PCRE2_NO_UTF_CHECK | options, data, context_);
    };
    const int result = run(0);
    // The JIT's stack is small; the interpreter uses the heap, up to its limit.
    return result == PCRE2_ERROR_JIT_STACKLIMIT ? run(PCRE2_NO_JIT) : result;
  }

 private:
  pcre2_code* code_ = nullptr;
  pcre2_match_context* context_ = nullptr;
};

Regex::Form::Form(const std::string& translated, const std::string& file, const std::string& place,
                  const std::string& pattern) {
  const std::unique_ptr<pcre2_compile_context, decltype(&pcre2_compile_context_free)> context(
      pcre2_compile_context_create(nullptr), &pcre2_compile_context_free);
  context_ = pcre2_match_context_create(nullptr);
  if (context == nullptr || context_ == nullptr) throw std::bad_alloc();
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int code = 0;
  PCRE2_SIZE offset = 0;
  // \C could end a match inside a character. In Oniguruma's (Ruby) syntax, ^ and $ match at lines.
  code_ = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                        PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &code, &offset,
                        context.get());
  if (code_ == nullptr) {
    pcre2_match_context_free(context_);
    throw Error(ErrorCode::kBadFile, "regular expression not understood: " + message_of(code),
                {.file = file, .place = place, .got = pattern});
  }
  pcre2_set_match_limit(context_, kMatchLimit);
  pcre2_set_heap_limit(context_, kHeapLimitKib);
  pcre2_jit_compile(code_, PCRE2_JIT_COMPLETE);  // without the JIT the result is the same, only slower
}

RegexScratch::RegexScratch() : data_(pcre2_match_data_create(1, nullptr)) {
  if (data_ == nullptr) throw std::bad_alloc();
}
RegexScratch::~RegexScratch() = default;
void RegexScratch::Free::operator()(void* data) const {
  pcre2_match_data_free(static_cast<pcre2_match_data*>(data));
}
void RegexScratch::look_at(std::string_view text) {
  texts_ = has_disputed(text) ? RegexTexts::kAll : RegexTexts::kUndisputed;
}

Regex::Regex(std::string_view pattern, const std::string& file, const std::string& place)
    : pattern_(pattern), file_(file), place_(place) {
  undisputed_ = make_form(RegexTexts::kUndisputed);
}

Regex::~Regex() = default;

std::unique_ptr<const Regex::Form> Regex::make_form(RegexTexts texts) const {
  return std::make_unique<const Form>(translate_oniguruma(pattern_, texts, file_, place_), file_, place_,
                                      pattern_);
}

const Regex::Form& Regex::form(RegexTexts texts) const {
  if (texts == RegexTexts::kUndisputed) return *undisputed_;
  std::call_once(all_made_, [this] { all_ = make_form(RegexTexts::kAll); });
  return *all_;
}

std::optional<Span> Regex::find(std::string_view text, size_t from, RegexScratch& scratch) const {
  auto* const data = static_cast<pcre2_match_data*>(scratch.match_data());
  const int result = form(scratch.texts()).match(text, from, data);
  if (result == PCRE2_ERROR_NOMATCH) return std::nullopt;
  if (result < 0) {
    throw Error(ErrorCode::kOutOfRange, "regular expression failed: " + message_of(result),
                {.place = "byte " + std::to_string(from) + " of the text", .got = pattern_});
  }
  const PCRE2_SIZE* span = pcre2_get_ovector_pointer(data);
  if (span[0] > span[1] || span[0] < from) {  // caused by \K in a look-around
    throw Error(ErrorCode::kUnsupported, "regular expression matches backwards", {.got = pattern_});
  }
  return Span{span[0], span[1]};
}

}  // namespace sepllm
