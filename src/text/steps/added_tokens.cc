#include "text/steps/added_tokens.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/utf8.h"
#include "text/steps/json_step.h"
#include "text/steps/unicode_class.h"

namespace sepllm {
namespace {

constexpr size_t kMaxContent = 1024;

uint64_t edge_key(int32_t node, char byte) {
  return (static_cast<uint64_t>(node) << 8) | static_cast<unsigned char>(byte);
}

size_t two_bytes(char a, char b) {
  return static_cast<size_t>(static_cast<unsigned char>(a)) << 8 | static_cast<unsigned char>(b);
}

bool has_class(const char* p, uint8_t mask) {
  int length = 0;
  return (unicode_classes()[decode_valid_utf8(p, length)] & mask) != 0;
}

bool word_before(std::string_view text, size_t at) {
  return at > 0 && has_class(previous_char(text.data() + at), kWord);
}

bool word_after(std::string_view text, size_t at) {
  return at < text.size() && has_class(text.data() + at, kWord);
}

// Moves `at` back over white space, but not before `floor`.
size_t strip_left(std::string_view text, size_t at, size_t floor) {
  while (at > floor) {
    const char* last = previous_char(text.data() + at);
    if (!has_class(last, kSpace)) break;
    at = static_cast<size_t>(last - text.data());
  }
  return std::max(at, floor);
}

size_t strip_right(std::string_view text, size_t at) {
  const char* end = text.data() + text.size();
  return static_cast<size_t>(skip_class(text.data() + at, end, unicode_classes(), kSpace) - text.data());
}

}  // namespace

bool SpecialPlaces::allow(size_t begin, size_t end) const {
  if (!anywhere || within == nullptr) return anywhere;
  const auto after = std::upper_bound(within->begin(), within->end(), begin,
                                      [](size_t at, const TextRange& range) { return at < range.begin; });
  return after != within->begin() && end <= std::prev(after)->end;
}

void StringMatcher::add(std::string_view text, int32_t value) {
  if (text.empty()) return;
  if (text.size() > kMaxContent) {
    throw Error(ErrorCode::kOutOfRange, "added token too long",
                {.expected = "at most " + std::to_string(kMaxContent) + " bytes",
                 .got = std::to_string(text.size())});
  }
  if (nodes_.empty()) nodes_.push_back(-1);
  int32_t node = 0;
  for (const char c : text) {
    const auto [edge, is_new] = edges_.try_emplace(edge_key(node, c), static_cast<int32_t>(nodes_.size()));
    if (is_new) nodes_.push_back(-1);
    node = edge->second;
  }
  nodes_[static_cast<size_t>(node)] = value;
  first_[static_cast<unsigned char>(text[0])] = true;
  if (text.size() == 1) {
    one_byte_[static_cast<unsigned char>(text[0])] = true;
  } else {
    first_two_[two_bytes(text[0], text[1])] = true;
  }
}

int32_t StringMatcher::child(int32_t node, char byte) const {
  const auto edge = edges_.find(edge_key(node, byte));
  return edge == edges_.end() ? -1 : edge->second;
}

std::optional<StringMatcher::Match> StringMatcher::longest_at(std::string_view text, size_t at,
                                                              FunctionRef<bool(const Match&)> allowed) const {
  std::optional<Match> best;
  int32_t node = 0;
  for (size_t end = at; end < text.size();) {
    node = child(node, text[end++]);
    if (node < 0) break;
    const int32_t value = nodes_[static_cast<size_t>(node)];
    if (const Match match{at, end, value}; value >= 0 && allowed(match)) best = match;
  }
  return best;
}

std::optional<StringMatcher::Match> StringMatcher::find(std::string_view text, size_t from,
                                                        FunctionRef<bool(const Match&)> allowed) const {
  for (size_t at = from; at < text.size(); ++at) {
    const auto byte = static_cast<unsigned char>(text[at]);
    if (!first_[byte]) continue;
    const bool possible =
        one_byte_[byte] || (at + 1 < text.size() && first_two_[two_bytes(text[at], text[at + 1])]);
    if (!possible) continue;
    if (const auto match = longest_at(text, at, allowed)) return match;
  }
  return std::nullopt;
}

AddedTokens::AddedTokens(std::vector<AddedToken> tokens, const Normalizer& normalizer,
                         const std::string& file)
    : tokens_(std::move(tokens)) {
  NormalizerScratch scratch;
  for (size_t k = 0; k < tokens_.size(); ++k) {
    const AddedToken& token = tokens_[k];
    const auto fail = [&](const char* what) {
      throw Error(ErrorCode::kBadFile, what,
                  {.file = file, .place = "added_tokens[" + std::to_string(k) + "]", .got = token.content});
    };
    if (token.content.empty() || utf8_find_invalid(token.content)) fail("added token empty or not UTF-8");
    if (!by_id_.emplace(token.id, k).second) fail("two added tokens with one id");
    if (!by_content_.emplace(token.content, k).second) fail("added token given twice");
    if (token.normalized) {
      normalized_.add(normalizer.apply(token.content, scratch), static_cast<int32_t>(k));
    } else {
      raw_.add(token.content, static_cast<int32_t>(k));
    }
  }
}

const AddedToken* AddedTokens::by_id(int32_t id) const {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : &tokens_[found->second];
}

const AddedToken* AddedTokens::by_content(std::string_view content) const {
  const auto found = by_content_.find(std::string(content));
  return found == by_content_.end() ? nullptr : &tokens_[found->second];
}

bool AddedTokens::cuts_before_line_break() const {
  return std::none_of(tokens_.begin(), tokens_.end(), [](const AddedToken& token) {
    return token.rstrip || token.content.find_first_of("\r\n", 1) != std::string::npos;
  });
}

bool AddedTokens::any_ends_in_letter() const {
  return std::any_of(tokens_.begin(), tokens_.end(), [](const AddedToken& token) {
    const char last = static_cast<char>(token.content.back() | 0x20);
    return last >= 'a' && last <= 'z';
  });
}

bool AddedTokens::normalizes_special() const {
  return std::any_of(tokens_.begin(), tokens_.end(),
                     [](const AddedToken& token) { return token.special && token.normalized; });
}

std::vector<TextRange> normalized_ranges(const Normalizer& normalizer, std::string_view part, size_t begin,
                                         const std::vector<TextRange>& ranges) {
  NormalizerScratch whole_scratch, scratch;
  const std::string whole(normalizer.apply(part, whole_scratch));
  // The corresponding place in the normal form, if it has one.
  const auto place = [&](size_t at) -> std::optional<size_t> {
    const std::string_view before = normalizer.apply(part.substr(0, at), scratch);
    return whole.starts_with(before) ? std::optional(before.size()) : std::nullopt;
  };
  std::vector<TextRange> out;
  for (const TextRange& range : ranges) {
    const size_t from = std::max(range.begin, begin), to = std::min(range.end, begin + part.size());
    if (from >= to) continue;
    const auto first = place(from - begin), last = place(to - begin);
    if (first && last && *first < *last && (out.empty() || out.back().end <= *first)) {
      out.push_back({*first, *last});
    }
  }
  return out;
}

bool AddedTokens::accepts(const AddedToken& token, std::string_view text, const StringMatcher::Match& match,
                          const SpecialPlaces& places) const {
  if (token.special && !places.anywhere) return false;
  return !token.single_word || (!word_before(text, match.begin) && !word_after(text, match.end));
}

void AddedTokens::split(std::string_view text, bool normalized, const SpecialPlaces& places,
                        SectionSink sink) const {
  // A string that is not recognised as a special token must not hide one that begins inside it.
  const auto in_place = [&](const StringMatcher::Match& match) {
    return places.within == nullptr || !tokens_[static_cast<size_t>(match.value)].special ||
           places.allow(match.begin, match.end);
  };
  const StringMatcher& matcher = normalized ? normalized_ : raw_;
  size_t done = 0;
  size_t from = 0;
  while (!matcher.empty() && from < text.size()) {
    const auto match = matcher.find(text, from, in_place);
    if (!match) break;
    from = match->end;
    const AddedToken& token = tokens_[static_cast<size_t>(match->value)];
    if (!accepts(token, text, *match, places)) continue;
    const size_t begin =
        token.lstrip ? strip_left(text, match->begin, std::min(done, match->begin)) : match->begin;
    const size_t end = token.rstrip ? strip_right(text, match->end) : match->end;
    if (begin > done) sink({text.substr(done, begin - done), -1});
    sink({text.substr(begin, end - begin), token.id});
    // As in the `tokenizers` library, `from` stays at the end of the token itself: the white space that it
    // took can begin another token.
    done = end;
  }
  if (done < text.size()) sink({text.substr(done), -1});
}

AddedToken read_added_token(const JsonObject& entry) {
  AddedToken token;
  token.content = entry.string("content");
  token.special = entry.boolean_or("special", false);
  token.single_word = entry.boolean_or("single_word", false);
  token.lstrip = entry.boolean_or("lstrip", false);
  token.rstrip = entry.boolean_or("rstrip", false);
  token.normalized = entry.boolean_or("normalized", !token.special);
  return token;
}

std::vector<AddedToken> parse_added_tokens(const JsonObject& document, int64_t max_id) {
  std::vector<AddedToken> tokens;
  if (!document.has("added_tokens")) return tokens;
  const Json& list = document.at("added_tokens");
  if (!list.is_array()) {
    throw Error(ErrorCode::kBadFile, "wrong type",
                {.file = document.file(), .place = "added_tokens", .expected = "a list"});
  }
  tokens.reserve(list.size());
  for (size_t k = 0; k < list.size(); ++k) {
    const JsonObject entry(list[k], document.file(), "added_tokens[" + std::to_string(k) + "]");
    refuse_unknown_keys(entry, {"id", "content", "special", "single_word", "lstrip", "rstrip", "normalized"});
    AddedToken token = read_added_token(entry);
    token.id = static_cast<int32_t>(entry.integer("id", 0, max_id));
    tokens.push_back(std::move(token));
  }
  return tokens;
}

}  // namespace sepllm
