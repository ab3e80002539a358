#include "text/template/text_operations.h"

#include <string.h>  // memmem

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/template/compare.h"

namespace sepllm::jinja {
namespace {

bool is_line_break(char32_t c) {
  return (c >= 0xA && c <= 0xD) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

// Makes a part of a text a value of its own.
Value part(Interpreter& run, const MarkedText& text, size_t begin, size_t end) {
  run.budget().make(end - begin + sizeof(Text) + 32);
  return Value::text(text.slice(begin, end));
}

// Where the words of a text are: between runs of white space.
std::vector<Stripped> words(Interpreter& run, std::string_view bytes) {
  run.budget().step(static_cast<int64_t>(bytes.size() / 16));
  std::vector<Stripped> out;
  bool in_word = false;
  for (size_t at = 0, length = 0; at < bytes.size(); at += length) {
    const bool space = is_space(code_point_at(bytes, at, length));
    if (!space && !in_word) out.push_back({at, bytes.size()});
    if (space && in_word) out.back().end = at;
    in_word = !space;
  }
  run.budget().make(out.size() * sizeof(Stripped));
  return out;
}

std::vector<Value> split_at_space(Interpreter& run, const MarkedText& text, int64_t most, bool from_right) {
  std::vector<Stripped> parts = words(run, text.bytes());
  const auto limit = static_cast<size_t>(most);
  if (most >= 0 && parts.size() > limit + 1) {
    // The rest keeps the white space within it.
    if (from_right) {
      const size_t rest = parts.size() - limit - 1;
      parts[rest].begin = 0;
      parts.erase(parts.begin(), parts.begin() + static_cast<std::ptrdiff_t>(rest));
    } else {
      parts[limit].end = text.size();
      parts.resize(limit + 1);
    }
  }
  // The rest keeps the white space at its far end, too.
  if (most >= 0 && parts.size() == limit + 1) {
    if (from_right) parts.front().begin = 0;
    if (!from_right) parts.back().end = text.size();
  }
  std::vector<Value> out;
  for (const Stripped& p : parts) out.push_back(part(run, text, p.begin, p.end));
  return out;
}

std::vector<size_t> matches(Interpreter& run, std::string_view text, std::string_view wanted, int64_t most) {
  std::vector<size_t> out;
  for (size_t at = 0; most < 0 || static_cast<int64_t>(out.size()) < most;) {
    at = next_match(run, text, wanted, at);
    if (at == std::string::npos) break;
    out.push_back(at);
    at += wanted.size();
  }
  run.budget().make(out.size() * sizeof(size_t));
  return out;
}

std::vector<size_t> matches_from_right(Interpreter& run, std::string_view text, std::string_view wanted,
                                       int64_t most) {
  std::vector<size_t> out;
  while (most < 0 || static_cast<int64_t>(out.size()) < most) {
    run.budget().step();
    const size_t at = find_last_text(text, wanted, run.budget());
    if (at == std::string::npos) break;
    out.push_back(at);
    text = text.substr(0, at);
  }
  std::reverse(out.begin(), out.end());
  return out;
}

}  // namespace

size_t next_match(Interpreter& run, std::string_view text, std::string_view part, size_t from) {
  const void* hit = memmem(text.data() + from, text.size() - from, part.data(), part.size());
  const size_t at =
      hit == nullptr ? std::string::npos : static_cast<size_t>(static_cast<const char*>(hit) - text.data());
  run.budget().step();
  run.budget().read(kSearchCost * (std::min(at, text.size()) - from + part.size()));
  return at;
}

size_t find_last_text(std::string_view text, std::string_view part, Budget& budget) {
  // rfind compares at every place: for parts that begin in the same way this takes the product of the
  // lengths.
  if (part.size() > text.size()) return std::string::npos;
  size_t compared = 0;
  for (size_t at = text.size() - part.size() + 1; at-- > 0;) {
    size_t same = 0;
    while (same < part.size() && text[at + same] == part[same]) ++same;
    if ((compared += 1 + same) > 4096) budget.read(16 * std::exchange(compared, 0));
    if (same == part.size()) return at;
  }
  budget.read(16 * compared);
  return std::string::npos;
}

MarkedText stripped(Interpreter& run, const MarkedText& text, const Text* characters, Sides sides) {
  const Stripped inner = characters == nullptr
                             ? strip(text.bytes(), sides, run.budget())
                             : strip(text.bytes(), characters->text.bytes(), sides, run.budget());
  run.budget().make(inner.end - inner.begin);
  return text.slice(inner.begin, inner.end);
}

MarkedText replaced(Interpreter& run, const MarkedText& text, const MarkedText& from, const MarkedText& to,
                    int64_t most) {
  std::vector<size_t> places;
  if (from.empty()) {  // inserts between all characters
    places = code_points(text.bytes(), run.budget());
    if (most >= 0 && static_cast<size_t>(most) < places.size()) places.resize(static_cast<size_t>(most));
  } else {
    places = matches(run, text.bytes(), from.bytes(), most);
  }
  run.budget().make(text.size());
  MarkedText out;
  size_t at = 0;
  for (const size_t place : places) {
    run.budget().make(to.size());
    out.append(text, at, place);
    out.append(to);
    at = place + from.size();
  }
  out.append(text, at, text.size());
  return out;
}

std::vector<Value> split(Interpreter& run, const MarkedText& text, const Text* separator, int64_t most,
                         bool from_right) {
  if (separator == nullptr) return split_at_space(run, text, most, from_right);
  const std::string& wanted = separator->text.bytes();
  if (wanted.empty()) fail("empty separator");
  const std::vector<size_t> places = from_right && most >= 0
                                         ? matches_from_right(run, text.bytes(), wanted, most)
                                         : matches(run, text.bytes(), wanted, most);
  std::vector<Value> out;
  size_t at = 0;
  for (const size_t place : places) {
    out.push_back(part(run, text, at, place));
    at = place + wanted.size();
  }
  out.push_back(part(run, text, at, text.size()));
  return out;
}

std::vector<Value> split_lines(Interpreter& run, const MarkedText& text, bool keep_ends) {
  const std::string& bytes = text.bytes();
  run.budget().step(static_cast<int64_t>(bytes.size() / 16));
  std::vector<Value> out;
  size_t begin = 0;
  for (size_t at = 0, length = 0; at < bytes.size(); at += length) {
    const char32_t c = code_point_at(bytes, at, length);
    if (!is_line_break(c)) continue;
    if (c == '\r' && at + 1 < bytes.size() && bytes[at + 1] == '\n') length = 2;
    out.push_back(part(run, text, begin, keep_ends ? at + length : at));
    begin = at + length;
  }
  if (begin < bytes.size()) out.push_back(part(run, text, begin, bytes.size()));
  return out;
}

MarkedText justified(Interpreter& run, const MarkedText& text, int64_t width, const MarkedText& fill,
                     bool left, bool right) {
  if (count_code_points(fill.bytes(), run.budget()) != 1)
    fail("the fill character must be exactly one character");
  // No more than what the budget refuses anyway.
  const int64_t wanted = std::min(width, run.budget().limits().bytes + 1);
  const int64_t missing = std::max<int64_t>(wanted - count_code_points(text.bytes(), run.budget()), 0);
  run.budget().make(static_cast<size_t>(missing) * fill.size() + text.size());
  // When centring, the odd blank goes to the left if the width is odd.
  int64_t n_left = left ? missing : 0;
  if (left && right) n_left = missing / 2 + (missing & width & 1);
  MarkedText out;
  for (int64_t k = 0; k < n_left; ++k) out.append(fill);
  out.append(text);
  for (int64_t k = n_left; k < missing; ++k) out.append(fill);
  return out;
}

}  // namespace sepllm::jinja
