#include "text/separators.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/options.h"
#include "base/utf8.h"
#include "text/blanks.h"

namespace sepllm {
namespace {

constexpr std::u32string_view kMarks = U".,?!;:…。，、？！；：．،؛؟۔।॥";
constexpr std::u32string_view kClosers = U"\"')]}’”»」』）】》";
constexpr std::string_view kIdsPrefix = "ids:";
constexpr std::string_view kStringsPrefix = "strings:";

bool is_in(char32_t c, std::u32string_view set) { return set.find(c) != std::u32string_view::npos; }

// Code points of a valid text; nullopt if it is not UTF-8.
std::optional<std::u32string> code_points(std::string_view text) {
  std::u32string out;
  while (!text.empty()) {
    const auto c = utf8_decode(text);
    if (!c) return std::nullopt;
    out += c->code_point;
    text.remove_prefix(static_cast<size_t>(c->length));
  }
  return out;
}

// The text rule of docs/METHOD.md#separators. A blank or closing character that is itself a mark is not
// trimmed, so that it can be found at the end.
struct TextRule {
  std::u32string_view marks = kMarks;
  bool blank_tokens = true;  // tokens of nothing but blanks are separators

  bool matches(std::string_view bytes) const {
    const auto text = code_points(bytes);
    if (!text || text->empty()) return false;
    std::u32string_view rest = *text;
    const auto trim = [&](auto&& drop) {
      while (!rest.empty() && !is_in(rest.back(), marks) && drop(rest.back())) rest.remove_suffix(1);
    };
    trim(is_blank);
    if (rest.empty()) return blank_tokens;
    trim([](char32_t c) { return is_in(c, kClosers); });
    return !rest.empty() && is_in(rest.back(), marks);
  }
};

// An id in the reference's lists, and the text that this token must have.
struct PaperToken {
  int32_t id;
  std::string_view text;
};

constexpr PaperToken kLlama3[] = {{13, "."},   {11, ","},   {30, "?"},    {0, "!"},    {26, ";"},
                                  {25, ":"},   {198, "\n"}, {220, " "},   {662, " ."}, {1174, " ,"},
                                  {949, " ?"}, {758, " !"}, {2652, " ;"}, {551, " :"}, {720, " \n"},
                                  {256, "  "}, {262, "   "}};
constexpr PaperToken kNeox[] = {{15, "."}, {13, ","},  {32, "?"},   {2, "!"},   {28, ";"},
                                {27, ":"}, {209, " "}, {186, "\t"}, {187, "\n"}};
constexpr PaperToken kNeoxStreaming[] = {{964, " ."},  {1157, " ,"},   {3736, " ?"},  {2195, " !"},
                                         {3706, " ;"}, {1163, " :"},   {2490, " \n"}, {50276, "  "},
                                         {586, "\n "}, {4928, " \n "}, {50275, "   "}};
constexpr PaperToken kFalcon[] = {{25, "."},     {23, ","},       {42, "?"},     {12, "!"},  {38, ";"},
                                  {37, ":"},     {193, "\n"},     {4610, " \n"}, {204, " "}, {258, "  "},
                                  {1212, "\n "}, {23787, " \n "}, {466, "   "}};
constexpr PaperToken kGpt2[] = {{13, "."},   {11, ","},    {30, "?"},    {0, "!"},     {26, ";"},
                                {25, ":"},   {220, " "},   {197, "\t"},  {198, "\n"},  {764, " ."},
                                {837, " ,"}, {5633, " ?"}, {5145, " !"}, {2162, " ;"}, {1058, " :"}};

struct PaperList {
  std::span<const PaperToken> tokens;
  std::span<const PaperToken> streaming;  // in addition
};
constexpr PaperList kPaperLists[] = {{kLlama3, {}}, {kNeox, kNeoxStreaming}, {kFalcon, {}}, {kGpt2, {}}};

TokenSet paper_separators(const Tokenizer& tokenizer, int64_t vocab_size, bool streaming) {
  for (const PaperList& list : kPaperLists) {
    std::vector<PaperToken> tokens(list.tokens.begin(), list.tokens.end());
    if (streaming) tokens.insert(tokens.end(), list.streaming.begin(), list.streaming.end());
    const bool fits = std::all_of(tokens.begin(), tokens.end(), [&](const PaperToken& t) {
      return t.id < vocab_size && tokenizer.token_bytes(t.id) == t.text;
    });
    if (!fits) continue;
    TokenSet set(vocab_size);
    for (const PaperToken& t : tokens) set.insert(t.id);
    return set;
  }
  throw Error(ErrorCode::kInvalidArgument, "no separator ids of the paper for this tokenizer",
              {.place = option_name("separators") + " paper",
               .expected = "the tokenizer of Llama-3, GPT-NeoX/Pythia, Falcon or GPT-2",
               .got = tokenizer.format(),
               .hint = "use " + option_name("separators") + " text"});
}

TokenSet separators_by_text(const Tokenizer& tokenizer, const TextRule& rule, int64_t vocab_size) {
  TokenSet set(vocab_size);
  const int64_t n = std::min(vocab_size, tokenizer.vocab_size());
  for (int32_t id = 0; id < n; ++id) {
    if (!tokenizer.is_special(id) && rule.matches(tokenizer.token_bytes(id))) set.insert(id);
  }
  return set;
}

TokenSet special_tokens(const Tokenizer& tokenizer, int64_t vocab_size) {
  TokenSet set(vocab_size);
  const int64_t n = std::min(vocab_size, tokenizer.vocab_size());
  for (int32_t id = 0; id < n; ++id) {
    if (tokenizer.is_special(id)) set.insert(id);
  }
  return set;
}

// The rules of which a rule consists.
std::vector<std::string> parts_of(const std::string& rule) {
  std::vector<std::string> out;
  for (std::string_view rest = rule;;) {
    const size_t plus = rest.starts_with(kStringsPrefix) ? std::string_view::npos : rest.find('+');
    out.emplace_back(rest.substr(0, plus));
    if (plus == std::string_view::npos) return out;
    rest.remove_prefix(plus + 1);
  }
}

void insert_all(const TokenSet& from, TokenSet* to) {
  for (const int32_t id : from.ids()) to->insert(id);
}

[[noreturn]] void fail(const std::string& message, const std::string& expected, std::string_view got) {
  throw Error(
      ErrorCode::kInvalidArgument, message,
      {.place = option_name("separators"), .expected = expected, .got = "'" + std::string(got) + "'"});
}

TokenSet separators_from_strings(const Tokenizer& tokenizer, std::string_view characters,
                                 int64_t vocab_size) {
  const auto marks = code_points(characters);
  if (!marks || marks->empty()) fail("wrong strings", "characters in UTF-8", characters);
  return separators_by_text(tokenizer, {.marks = *marks, .blank_tokens = false}, vocab_size);
}

TokenSet separators_of_part(const std::string& rule, int64_t vocab_size) {
  TokenSet set(vocab_size);
  std::string_view rest = std::string_view(rule).substr(std::min(rule.size(), kIdsPrefix.size()));
  for (bool more = true; more;) {
    const size_t comma = rest.find(',');
    const std::string_view item = rest.substr(0, comma);
    const auto id = parse_integer(item);
    if (!id || *id < 0 || *id >= vocab_size) {
      fail("wrong separator id", fmt::format("integers from 0 to {} with commas between", vocab_size - 1),
           item);
    }
    set.insert(static_cast<int32_t>(*id));
    more = comma != std::string_view::npos;
    if (more) rest.remove_prefix(comma + 1);
  }
  return set;
}

TokenSet separators_of_part(const Tokenizer& tokenizer, const std::string& rule, int64_t vocab_size,
                            bool streaming) {
  if (rule == "text") return separators_by_text(tokenizer, {}, vocab_size);
  if (rule == "paper") return paper_separators(tokenizer, vocab_size, streaming);
  if (rule == "special") return special_tokens(tokenizer, vocab_size);
  if (rule.starts_with(kIdsPrefix)) return separators_of_part(rule, vocab_size);
  if (rule.starts_with(kStringsPrefix)) {
    return separators_from_strings(tokenizer, std::string_view(rule).substr(kStringsPrefix.size()),
                                   vocab_size);
  }
  const std::string near = nearest_name(rule, {"text", "paper", "special"});
  throw Error(ErrorCode::kInvalidArgument, "unknown rule",
              {.place = option_name("separators"),
               .expected = "text, paper, special, ids:1,2,3 or strings:S",
               .got = "'" + rule + "'",
               .hint = near.empty() ? "" : "did you mean '" + near + "'?"});
}

}  // namespace

bool separators_need_tokenizer(const std::string& rule) {
  const std::vector<std::string> parts = parts_of(rule);
  return !std::all_of(parts.begin(), parts.end(),
                      [](const std::string& part) { return part.starts_with(kIdsPrefix); });
}

TokenSet separators_from_ids(const std::string& rule, int64_t vocab_size) {
  TokenSet set(vocab_size);
  for (const std::string& part : parts_of(rule)) insert_all(separators_of_part(part, vocab_size), &set);
  return set;
}

TokenSet make_separators(const Tokenizer& tokenizer, const std::string& rule, int64_t vocab_size,
                         bool streaming) {
  TokenSet set(vocab_size);
  for (const std::string& part : parts_of(rule))
    insert_all(separators_of_part(tokenizer, part, vocab_size, streaming), &set);
  return set;
}

}  // namespace sepllm
