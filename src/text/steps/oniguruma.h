// Tokenizer files write regular expressions in the syntax of Oniguruma (Ruby's); this translates it for
// PCRE2.
#pragma once

#include <string>
#include <string_view>

#include "text/steps/regex_class.h"

namespace sepllm {

// The pattern for PCRE2 with PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, for these texts. Classes have the
// members of Unicode 16.0 (regex_class.h). Error (kUnsupported) with `place`, the key it came from, for what
// PCRE2 cannot do.
std::string translate_oniguruma(std::string_view pattern, RegexTexts texts, const std::string& file,
                                const std::string& place);

}  // namespace sepllm
