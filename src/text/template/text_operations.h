// Operations of methods and filters on texts; each byte keeps its origin.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "text/template/characters.h"
#include "text/template/interpreter.h"

namespace sepllm::jinja {

// Removes white space at its ends, or the given characters. `characters` may be null.
MarkedText stripped(Interpreter& run, const MarkedText& text, const Text* characters, Sides sides);
// Replaces every `from` (at most `most` from the left, all if negative) by `to`, which keeps its own origin.
MarkedText replaced(Interpreter& run, const MarkedText& text, const MarkedText& from, const MarkedText& to,
                    int64_t most);
// str.split and rsplit: cuts at a separator or, if it is null, at runs of white space.
std::vector<Value> split(Interpreter& run, const MarkedText& text, const Text* separator, int64_t most,
                         bool from_right);
std::vector<Value> split_lines(Interpreter& run, const MarkedText& text, bool keep_ends);
// Pads to `width` characters with `fill` on these sides; if on both, shared as by str.center.
MarkedText justified(Interpreter& run, const MarkedText& text, int64_t width, const MarkedText& fill,
                     bool left, bool right);

// The same as find_text, for the next of many matches in one text: charges only for the bytes that are looked
// at.
size_t next_match(Interpreter& run, std::string_view text, std::string_view part, size_t from);
size_t find_last_text(std::string_view text, std::string_view part, Budget& budget);

}  // namespace sepllm::jinja
